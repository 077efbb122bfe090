// Hides or shows the rows of published numbers.
const shown = document.getElementById("published");
if (shown) shown.addEventListener("change", () => {
  document.querySelectorAll("tr.published").forEach(row => { row.hidden = !shown.checked; });
});
