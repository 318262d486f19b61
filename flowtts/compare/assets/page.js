"use strict";
// Everything is on the page already; this sorts, filters and shares sounds.
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const announce = (text) => { byId("announcement").textContent = text; };

  // --- sorting: a button in each head; numbers by value, what is missing last ---
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

  function sortBy(table, head, order) {
    const column = head.cellIndex;
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value;
      if (value === undefined) return [cell.textContent.trim(), row];
      return [value === "" ? null : Number(value), row];
    });
    const sign = order === "ascending" ? 1 : -1;
    keyed.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
    for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    announce(`Sorted by ${head.textContent.trim()}, ${order}`);
  }

  for (const table of all("table.sortable")) {
    for (const head of Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const opposite = { ascending: "descending", descending: "ascending" };
        sortBy(table, head, opposite[head.getAttribute("aria-sort")] || head.dataset.first || "ascending");
      });
    }
  }

  // --- filters ---
  function filter(form, apply) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", apply);
    form.addEventListener("change", apply);
    apply();
  }

  const differences = byId("difference-tools");
  if (differences) {
    const metric = byId("difference-metric");
    const rows = all("#difference-table tbody tr");
    if (rows.length > 40 && metric.options.length > 1) metric.selectedIndex = 1;
    filter(differences, () => {
      let shown = 0;
      for (const row of rows) {
        const wanted = metric.value === "" || row.dataset.metric === metric.value;
        row.hidden = !wanted || (byId("difference-real").checked && row.dataset.real !== "1");
        shown += row.hidden ? 0 : 1;
      }
      byId("difference-count").textContent = `${shown} of ${rows.length} pairs`;
    });
  }

  const prompts = all("article.prompt").map((prompt) => [prompt, all(".take", prompt)]);
  const takes = prompts.reduce((count, [, held]) => count + held.length, 0);
  filter(byId("row-tools"), () => {
    const words = byId("row-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const system = byId("row-system").value;
    const errors = byId("row-errors").checked;
    let shown = 0;
    for (const [prompt, held] of prompts) {
      const said = words.every((word) => prompt.dataset.search.includes(word));
      let here = 0;
      for (const take of held) {
        const wanted = system === "" || take.dataset.system === system;
        take.hidden = !said || !wanted || (errors && take.dataset.wrong !== "1");
        here += take.hidden ? 0 : 1;
      }
      prompt.hidden = !said || (here === 0 && (system !== "" || errors));
      shown += here;
    }
    byId("row-count").textContent = `${shown} of ${takes} recordings`;
  });

  // --- sounds: one plays at a time; what is embedded once is played from everywhere ---
  for (const player of all("audio[data-same]")) {
    player.src = byId(player.dataset.same).getAttribute("src");
    player.hidden = false;
    player.nextElementSibling.hidden = true;
  }
  document.addEventListener("play", (event) => {
    for (const player of all("audio")) if (player !== event.target) player.pause();
  }, true);
})();
