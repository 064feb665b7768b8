// Before the first paint: the theme that was chosen here, if any.
(function () {
  "use strict";
  document.documentElement.dataset.scripts = "yes";
  try {
    var chosen = localStorage.getItem("bgbench-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (error) { /* storage may be closed to files; the system's theme it is */ }
})();
