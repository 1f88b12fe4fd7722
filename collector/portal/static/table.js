// A table that people can sort by the buttons in its head.

import { element } from "./dom.js";
import { NOTHING } from "./format.js";

/**
 * Return {element, update(rows)}.
 *
 * A column is {label, value(row), show(row), help, numeric, descending}: `value` is what sorting
 * compares (null last either way; no sorting without it), `show` gives text or an element,
 * `descending` is the order of the first click. Rows keep their given order until the first click.
 */
export function sortableTable({ caption, columns, empty, className = "" }) {
  const body = element("tbody");
  const heads = columns.map((column) => headCell(column, () => sortBy(column)));
  const head = element("thead", {}, element("tr", {}, heads));
  const table = element(
    "table", { class: className }, element("caption", { class: "unseen" }, caption), head, body,
  );
  const region = { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" };
  let rows = [];
  let order = null;

  function sortBy(column) {
    const again = order?.column === column;
    order = { column, descending: again ? !order.descending : Boolean(column.descending) };
    draw();
  }

  function draw() {
    heads.forEach((head, index) => tellOrder(head, order, columns[index]));
    const sorted = order ? inOrder(rows, order) : rows;
    head.hidden = rows.length === 0;
    const focused = focusedLink(body);
    body.replaceChildren(
      ...(sorted.length ? sorted.map((row) => bodyRow(columns, row)) : [emptyRow(columns, empty)]),
    );
    if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  return {
    element: element("div", region, table),
    update(fresh) {
      rows = fresh;
      draw();
    },
  };
}

function headCell(column, onClick) {
  const label = column.value
    ? element("button", { type: "button", click: onClick, title: column.help }, column.label)
    : element("span", { title: column.help }, column.label);
  return element("th", { scope: "col", class: column.numeric && "number" }, label);
}

function tellOrder(head, order, column) {
  if (order?.column !== column) head.removeAttribute("aria-sort");
  else head.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
}

function inOrder(rows, { column, descending }) {
  const compared = rows.map((row) => [column.value(row), row]);
  compared.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const difference = typeof a === "string" ? a.localeCompare(b, "en") : a - b;
    return descending ? -difference : difference;
  });
  return compared.map(([, row]) => row);
}

function bodyRow(columns, row) {
  const cells = columns.map((column, index) => {
    const shown = orNothing((column.show ?? column.value)(row));
    const attributes = { class: column.numeric && "number", "data-label": column.label };
    return index === 0
      ? element("th", { ...attributes, scope: "row" }, shown)
      : element("td", attributes, shown);
  });
  return element("tr", {}, cells);
}

function orNothing(shown) {
  return shown === null || shown === undefined || shown === "" ? NOTHING : shown;
}

function emptyRow(columns, words) {
  return element("tr", {}, element("td", { colspan: columns.length, class: "state" }, words));
}

function focusedLink(body) {
  const focused = document.activeElement;
  return body.contains(focused) ? focused.getAttribute("href") : null;
}
