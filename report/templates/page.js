// Sorting, filtering and deep links; without it the page can be read as it stands.
document.documentElement.classList.add("js");

const text = (row, column) => row.cells[column]?.textContent.trim() ?? "";
const number = (value) => {
  const found = value.replace(/,/g, "").replace(/\u2212/g, "-").match(/^[+-]?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
};

// Numbers by value and before words; what is alike stays in its order.
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (x !== null && y !== null) return x - y;
  if (x !== null || y !== null) return x === null ? 1 : -1;
  return a < b ? -1 : a > b ? 1 : 0;
};

const sort = (table, heading, column) => {
  const turned = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", turned ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(text(a, column), text(b, column)) * (turned ? -1 : 1));
  body.append(...rows);
};

for (const table of document.querySelectorAll(".scroll > table:not(.points)")) {
  const rows = table.tBodies[0].rows;
  if (rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading, column));
    heading.append(button);
  });
  if (rows.length < 8) continue;
  const label = document.createElement("label");
  const input = document.createElement("input");
  label.className = "filter";
  label.append("Show lines with", input);
  input.type = "search";
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const held = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => held.includes(word));
    }
  });
  table.parentElement.before(label);
}

// A link to a row opens where it comes from.
const open = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  const found = id && document.getElementById(id);
  if (!found) return;
  if (found.hasAttribute("popover")) found.showPopover();
  found.closest("details")?.setAttribute("open", "");
};
addEventListener("hashchange", open);
open();
