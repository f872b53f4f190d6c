// Fetches the page each second while it is visible, and replaces the sections
// that differ. Without this script the page reloads itself every five seconds.
(() => {
  const live = document.getElementById("live"), button = document.getElementById("pause");
  let paused = false, busy = false;
  button.hidden = false;
  button.onclick = () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", paused);
  };
  const replace = (from, to) => {
    const have = [...from.children], want = [...to.children];
    if (have.length !== want.length || have.some((e, i) => e.id !== want[i].id)) return from.replaceChildren(...want);
    have.forEach((e, i) => {
      if (e.outerHTML === want[i].outerHTML) return;
      const scrolled = [...e.querySelectorAll(".wide")].map(w => w.scrollLeft);
      const held = e.contains(document.activeElement) ? [...e.querySelectorAll(".wide")].indexOf(document.activeElement) : -1;
      e.replaceWith(want[i]);
      [...want[i].querySelectorAll(".wide")].forEach((w, j) => { w.scrollLeft = scrolled[j] || 0; if (j === held) w.focus({preventScroll: true}); });
    });
  };
  const look = async () => {
    if (paused || busy || document.hidden || !getSelection().isCollapsed) return;
    busy = true;
    try {
      const got = await fetch(location.pathname, {headers: {Accept: "text/html"}, signal: AbortSignal.timeout(5000)});
      if (!got.ok) throw new Error(got.status);
      const next = new DOMParser().parseFromString(await got.text(), "text/html");
      if (paused) { busy = false; return; }
      replace(document.querySelector("main"), next.querySelector("main"));
      document.title = next.title;
      live.textContent = next.getElementById("live").textContent;
      live.className = "";
    } catch {
      live.textContent = "no answer";
      live.className = "off";
    }
    busy = false;
  };
  setInterval(look, 1000);
})();
