// Sorting, filtering and the theme. Pages are whole without it.
(function () {
  "use strict";

  function setUpTheme() {
    var button = document.querySelector("[data-theme-button]");
    var names = ["system", "light", "dark"];
    function now() { return document.documentElement.dataset.theme || "system"; }
    function show() { button.textContent = "Theme: " + now(); }
    button.addEventListener("click", function () {
      var next = names[(names.indexOf(now()) + 1) % names.length];
      if (next === "system") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = next;
      try { localStorage.setItem("bgbench-theme", next); } catch (error) { /* not kept */ }
      show();
    });
    show();
  }

  // Empty values go last whichever way is sorted.
  function compare(kind, sign) {
    return function (one, two) {
      if (one.key === "" || two.key === "") return (one.key === "") - (two.key === "") || one.place - two.place;
      var order = kind === "number" ? Number(one.key) - Number(two.key)
        : one.key.localeCompare(two.key, "en", { numeric: true });
      return sign * order || one.place - two.place;
    };
  }

  // Long tables show their first rows until all are asked for: laying out hundreds takes seconds.
  var FIRST = 100;

  function trim(table) {
    if (!table.classList.contains("board") || table.dataset.all === "yes") return;
    var shown = 0;
    Array.from(table.tBodies[0].rows).forEach(function (row) {
      shown += !row.hidden;
      row.classList.toggle("rest", !row.hidden && shown > FIRST);
    });
  }

  function setUpMore(button) {
    button.addEventListener("click", function () {
      var table = document.querySelector("table.board");
      table.dataset.all = "yes";
      table.querySelectorAll("tr.rest").forEach(function (row) { row.classList.remove("rest"); });
      button.remove();
    });
  }

  function setUpSorting(table) {
    var body = table.tBodies[0];
    Array.from(body.rows).forEach(function (row, place) { row.dataset.place = place; });
    table.querySelectorAll("[data-sort-button]").forEach(function (button) {
      var head = button.closest("th");
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("thead th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        var rows = Array.from(body.rows).map(function (row) {
          return { row: row, key: row.cells[head.cellIndex].dataset.sort || "", place: Number(row.dataset.place) };
        });
        rows.sort(compare(button.dataset.kind, up ? 1 : -1));
        var sorted = document.createDocumentFragment();
        rows.forEach(function (item) { sorted.appendChild(item.row); });
        body.appendChild(sorted);
        trim(table);
      });
    });
  }

  function setUpFilters(form) {
    var table = document.querySelector("table.board");
    var rows = Array.from(table.tBodies[0].rows);
    var texts = rows.map(function (row) { return row.cells[0].textContent.toLowerCase(); });
    var tiers = ["samples-only", "reported", "recomputed", "reproduced"];
    function field(name) { return form.querySelector('[data-filter="' + name + '"]'); }
    function apply() {
      var words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      rows.forEach(function (row, k) {
        var keep = words.every(function (word) { return texts[k].includes(word); })
          && tiers.indexOf(row.dataset.tier) >= Number(field("tier").value)
          && (field("control").checked || row.dataset.control === "no")
          && (!field("complete").checked || row.dataset.complete === "yes");
        row.hidden = !keep;
        shown += keep;
      });
      trim(table);
      form.querySelector("[data-filter-count]").textContent = shown + " of " + rows.length + " entries";
    }
    form.addEventListener("input", apply);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    apply();
  }

  setUpTheme();
  document.querySelectorAll("table[data-sortable]").forEach(setUpSorting);
  document.querySelectorAll("[data-filters]").forEach(setUpFilters);
  document.querySelectorAll("[data-more]").forEach(setUpMore);
  document.documentElement.dataset.ready = "yes";
})();
