// The pages work without this. It brings Airflow's theme, time zone and language to them, and lets links to Airflow and
// MLflow leave Airflow's frame.
(() => {
  "use strict";
  const root = document.documentElement;
  const stored = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage is blocked: the page looks as the browser's own settings say
    }
  };

  const setTheme = () => {
    const theme = stored("theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  setTheme();
  addEventListener("storage", (event) => {
    if (event.key === "theme") setTheme();
    if (event.key === "timezone" || event.key === "i18nextLng") bringChoices();
  });

  // Airflow keeps the zone as JSON, and the language as it is.
  const zone = () => {
    try {
      const parsed = JSON.parse(stored("timezone") ?? '"UTC"');
      return parsed === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : String(parsed);
    } catch {
      return "UTC"; // not what Airflow writes
    }
  };
  const cookie = (name) =>
    document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);

  // The server writes times and numbers, charts included, so it has to know: a cookie for this folder, and once again.
  function bringChoices() {
    const folder = location.pathname.replace(/[^/]*$/, "");
    const wanted = { feature_health_zone: zone(), feature_health_language: stored("i18nextLng") ?? "" };
    let changed = false;
    for (const [name, value] of Object.entries(wanted)) {
      const text = encodeURIComponent(value);
      if ((cookie(name) ?? "") === text) continue;
      document.cookie = `${name}=${text}; path=${folder}; max-age=31536000; samesite=lax`;
      changed ||= cookie(name) === text; // not where cookies are refused, or this would never end
    }
    if (changed) location.reload();
  }
  bringChoices();

  // Airflow's frame may not navigate the window around it, so the window does it itself.
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-airflow], a[data-elsewhere]");
    if (!link || window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const outside = window.parent.document.createElement("a");
    outside.href = link.href;
    if ("elsewhere" in link.dataset) Object.assign(outside, { target: "_blank", rel: "noopener" });
    event.preventDefault();
    window.parent.document.body.append(outside);
    outside.click();
    outside.remove();
  });
})();
