// Queries with two runs' values; a query opens to show both runs' best documents with their judgements.
const data = JSON.parse(document.getElementById("explorer-data").textContent);
const el = (name, attributes = {}, ...inside) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
};
const [first, second, find, only] = ["explorer-first", "explorer-second", "explorer-find", "explorer-only"].map(id => document.getElementById(id));
const body = document.querySelector("#explorer tbody");
const heads = [...document.querySelectorAll("#explorer thead th")];
const single = data.runs.length === 1;
let sortBy = single ? "first" : "difference", down = single ? false : true;

const keys = {
  query: query => query.id,
  first: query => query.values[+first.value],
  second: query => query.values[+second.value],
  difference: query => query.values[+second.value] - query.values[+first.value],
};

// The matched words of a document: buttons with what they add as a tooltip; one is in the tab order, arrow keys go on.
function excerpt(pieces) {
  const line = el("p", { class: "matched" });
  for (const piece of pieces) {
    if (typeof piece === "string") line.append(piece);
    else line.append(el("button", { type: "button", class: `match m${piece[1]}`, tabindex: -1 }, piece[0],
      el("span", { role: "tooltip" }, piece[2])));
  }
  const words = [...line.querySelectorAll("button")];
  if (words.length) words[0].tabIndex = 0;
  line.addEventListener("keydown", event => {
    const at = words.indexOf(document.activeElement), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") words[at].blur();
    if (!step || !words[at + step]) return;
    event.preventDefault();
    words[at].tabIndex = -1;
    words[at + step].tabIndex = 0;
    words[at + step].focus();
  });
  return line;
}

function side(query, run) {
  const list = el("ol");
  query.tops[run].forEach(([number, score, label], place) => {
    const [id, title] = data.documents[number];
    const judged = label === null ? "unjudged" : label > 0 ? `relevant ${label}` : `not relevant ${label}`;
    const item = el("li", { class: label === null ? "unjudged" : label > 0 ? "relevant" : "not" },
      el("span", { class: "meta" }, el("span", {}, `${place + 1}`), el("strong", {}, id), el("span", {}, judged), el("span", {}, `${score}`)));
    const elsewhere = single ? -1 : query.tops[run === +first.value ? +second.value : +first.value].findIndex(row => row[0] === number);
    if (!single && run === +second.value) item.firstChild.append(el("span", {}, elsewhere < 0 ? "new" : `was ${elsewhere + 1}`));
    const matched = query.matched && query.matched[run][number];
    if (matched) item.append(excerpt(matched[0]), ...matched[1].map(note => el("span", { class: "tag" }, note)));
    else if (title) item.append(title);
    list.append(item);
  });
  const value = query.values[run].toFixed(4);
  return el("section", {}, el("h3", {}, `${data.runs[run]}: ${data.measure} ${value}`),
    ...(query.matched && Object.keys(query.matched[run]).length ? data.notes[run].map(note => el("p", { class: "tag" }, note)) : []),
    query.tops[run].length ? list : el("p", {}, "no results: counts as 0"));
}

function open(query, button, row) {
  const next = row.nextSibling;
  if (next && next.classList.contains("detail")) {
    next.remove();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  button.setAttribute("aria-expanded", "true");
  const runs = single || first.value === second.value ? [+first.value] : [+first.value, +second.value];
  const cell = el("td", { colspan: heads.length, class: "text" },
    el("p", {}, `${query.text} `, el("span", { class: "tag" }, `${query.relevant} relevant documents are known`)),
    el("div", { class: "sides" }, ...runs.map(run => side(query, run))));
  row.after(el("tr", { class: "detail" }, cell));
}

function draw() {
  const wanted = find.value.trim().toLowerCase();
  const apart = only && only.checked;
  const rows = data.queries.filter(query => (!wanted || `${query.id} ${query.text}`.toLowerCase().includes(wanted))
    && (!apart || Math.abs(keys.difference(query)) > 1e-12));
  const key = keys[sortBy];
  rows.sort((a, b) => typeof key(a) === "string" ? key(a).localeCompare(key(b), "en", { numeric: true }) : key(a) - key(b));
  if (down) rows.reverse();
  body.replaceChildren(...rows.map(query => {
    const button = el("button", { type: "button", class: "open", "aria-expanded": "false" }, query.id);
    const row = el("tr", {}, el("th", { scope: "row" }, button, el("span", { class: "tag" }, query.text)));
    row.append(el("td", {}, keys.first(query).toFixed(4)));
    if (!single) {
      const difference = keys.difference(query);
      row.append(el("td", {}, keys.second(query).toFixed(4)),
        el("td", { class: difference > 1e-12 ? "up" : difference < -1e-12 ? "down" : "" }, `${difference > 0 ? "+" : ""}${difference.toFixed(4)}`));
    }
    button.addEventListener("click", () => open(query, button, row));
    return row;
  }));
  document.getElementById("explorer-count").textContent = `${rows.length} of ${data.queries.length} queries`;
  heads.forEach(head => head.dataset.key === sortBy ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
  heads.filter(head => head.dataset.key === "first").forEach(head => { head.querySelector("button").textContent = data.runs[+first.value]; });
  heads.filter(head => head.dataset.key === "second").forEach(head => { head.querySelector("button").textContent = data.runs[+second.value]; });
}

heads.forEach(head => head.querySelector("button").addEventListener("click", () => {
  down = sortBy === head.dataset.key ? !down : head.dataset.key !== "query";
  sortBy = head.dataset.key;
  draw();
}));
[first, second, only].forEach(control => control && control.addEventListener("change", draw));
find.addEventListener("input", draw);
draw();
