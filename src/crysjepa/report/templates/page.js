"use strict";
// Sorts and filters the list of crystals, and shows one in three dimensions. It fetches nothing, and what
// comes from a run goes into the page as text only (textContent, never innerHTML).
(() => {
  const byId = (id) => document.getElementById(id);
  const table = byId("cards");
  const rows = [...table.tBodies]; // one for each crystal, with what is known of it below

  // -- sorting: click a heading, again to reverse; what has no value comes last either way

  const headings = [...table.tHead.rows[0].cells];

  function compare(column, isNumber, sign) {
    const value = (row) => row.rows[0].cells[column].dataset.value ?? "";
    return (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (isNumber ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
    };
  }

  function sort(column, descending) {
    const isNumber = headings[column].dataset.sort === "number";
    table.append(...[...rows].sort(compare(column, isNumber, descending ? -1 : 1)));
    for (const [i, heading] of headings.entries()) {
      if (i === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    byId("order").value = `${column} ${descending}`;
  }

  for (const [column, heading] of headings.entries()) {
    if (!heading.dataset.sort) continue;
    const name = heading.querySelector("span");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name.textContent;
    button.addEventListener("click", () => sort(column, heading.getAttribute("aria-sort") === "ascending"));
    name.replaceWith(button);
    for (const descending of [false, true]) { // where the page is narrow, in place of the headings
      const option = document.createElement("option");
      option.value = `${column} ${descending}`;
      option.textContent = `${button.textContent} ${descending ? "▼" : "▲"}`;
      byId("order").append(option);
    }
  }
  byId("order").value = ""; // as it was written: by none of the columns
  byId("order").addEventListener("change", (event) => {
    const [column, descending] = event.target.value.split(" ");
    sort(Number(column), descending === "true");
  });

  // -- filtering: every word must be an element of the crystal, or a part of its formula or id

  const boxes = [...document.querySelectorAll("#controls input[type=checkbox]")];

  function matches(row, word) {
    const { text, elements } = row.dataset;
    if (/^[A-Z][a-z]?$/.test(word)) return elements.split(" ").includes(word);
    return text.toLowerCase().includes(word.toLowerCase());
  }

  function filter() {
    const words = byId("find").value.split(/[\s,]+/).filter(Boolean);
    const flags = boxes.filter((box) => box.checked).map((box) => box.value);
    for (const row of rows) {
      const has = row.dataset.flags.split("|");
      row.hidden = !(words.every((word) => matches(row, word)) && flags.every((flag) => has.includes(flag)));
    }
    const left = rows.filter((row) => !row.hidden).length;
    byId("shown").textContent = `${left} of ${rows.length} shown`;
  }

  byId("find").addEventListener("input", filter);
  for (const box of boxes) box.addEventListener("change", filter);
  addEventListener("hashchange", () => {
    const target = rows.find((row) => `#${row.id}` === location.hash);
    if (!target?.hidden) return;
    byId("find").value = "";
    for (const box of boxes) box.checked = false;
    filter();
    target.scrollIntoView();
  });
  filter();
  byId("controls").hidden = false;

  // -- the viewer: one for all crystals, made when it is first asked for

  if (!byId("viewer")) return;
  const scenes = JSON.parse(byId("scenes").textContent);
  let viewer = null;

  function draw({ cell, elements, atoms }) {
    viewer.clear();
    for (const [kind, x, y, z] of atoms) {
      const [, color, radius] = elements[kind];
      viewer.addSphere({ center: { x, y, z }, radius, color });
    }
    const point = (i, j, k) => {
      const [x, y, z] = [0, 1, 2].map((axis) => i * cell[0][axis] + j * cell[1][axis] + k * cell[2][axis]);
      return { x, y, z };
    };
    const color = getComputedStyle(byId("stage")).borderTopColor;
    for (const [a, b] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      viewer.addLine({ start: point(0, a, b), end: point(1, a, b), color });
      viewer.addLine({ start: point(a, 0, b), end: point(a, 1, b), color });
      viewer.addLine({ start: point(a, b, 0), end: point(a, b, 1), color });
    }
    viewer.zoomTo();
    viewer.render();
  }

  function view(button) {
    byId("viewed").textContent = button.closest("tbody").dataset.text;
    byId("viewer").showModal(); // first, for the viewer measures its place
    try {
      viewer ??= $3Dmol.createViewer(byId("stage"), { backgroundAlpha: 0, antialias: true });
      viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
      draw(scenes[Number(button.dataset.scene)]);
    } catch (error) {
      byId("viewed-says").textContent = `This browser cannot draw in three dimensions: ${error.message}`;
    }
  }

  byId("close").addEventListener("click", () => byId("viewer").close());
  for (const button of document.querySelectorAll("button.view")) {
    button.hidden = false;
    button.addEventListener("click", () => view(button));
  }
})();
