// Sorts the tables of class `sortable` by a click, or a key, on a column's name.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = head.querySelector(".sort");
    if (button) button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => { const cell = row.children[column]; return cell.dataset.value ?? cell.textContent.trim(); };
      const order = (a, b) => {
        const x = parseFloat(value(a)), y = parseFloat(value(b));
        if (isNaN(x) && isNaN(y)) return value(b).localeCompare(value(a));
        if (isNaN(x) || isNaN(y)) return (isNaN(x) ? 1 : -1) * (down ? 1 : -1);  // what is no number stays last
        return y - x;
      };
      const body = table.tBodies[0];
      [...body.rows].sort((a, b) => down ? order(a, b) : -order(a, b)).forEach(row => body.append(row));
    });
  });
}
