"use strict";
(() => {
  const MOST = 64;
  const root = document.documentElement;

  // light or dark: as the system says, until the button is pressed
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.querySelector(".theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
  });

  const groups = new Map();
  for (const figure of document.querySelectorAll(".viewer")) {
    const name = figure.dataset.group;
    if (!groups.has(name)) groups.set(name, { scale: 1, x: 0, y: 0, viewers: [] });
    const view = groups.get(name);
    view.viewers.push(viewer(figure, view));
  }
  const drawAll = view => view.viewers.forEach(one => one.draw());
  groups.forEach(drawAll);

  const dots = document.querySelector("[data-dots]");
  if (dots) dots.addEventListener("change", () => {
    document.getElementById("object").classList.toggle("with-dots", dots.checked);
  });

  // x and y of a view are where its left upper corner lies, in parts of the stage
  function moveTo(view, scale, x, y) {
    view.scale = Math.min(MOST, Math.max(1, scale));
    view.x = Math.min(0, Math.max(1 - view.scale, x));
    view.y = Math.min(0, Math.max(1 - view.scale, y));
    drawAll(view);
  }
  function zoom(view, factor, at) {
    const scale = Math.min(MOST, Math.max(1, view.scale * factor));
    const by = scale / view.scale;
    moveTo(view, scale, at.x - (at.x - view.x) * by, at.y - (at.y - view.y) * by);
  }

  function viewer(figure, view) {
    const stage = figure.querySelector(".stage"), sheet = figure.querySelector(".sheet");
    const bar = figure.querySelector(".scalebar"), where = figure.querySelector(".where");
    const width = Number(figure.dataset.width);
    const nm = figure.dataset.nm ? Number(figure.dataset.nm) : null;
    const middle = { x: 0.5, y: 0.5 };
    const at = event => {
      const box = stage.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    };

    function draw() {
      const side = stage.clientWidth, high = stage.clientHeight;
      sheet.style.transform = `translate(${view.x * side}px, ${view.y * high}px) scale(${view.scale})`;
      stage.classList.toggle("zoomed", view.scale > 1);
      const perPixel = side * view.scale / width;  // of the screen
      const unit = nm || 1;
      const most = side * 0.3 / perPixel * unit;
      const power = 10 ** Math.floor(Math.log10(most));
      const long = power * [5, 2, 1].find(step => step * power <= most);
      bar.querySelector("span").textContent = named(long);
      bar.querySelector("i").style.width = `${long / unit * perPixel}px`;
      bar.hidden = side === 0;
    }
    function named(long) {
      if (nm === null) return `${short(long)} px`;
      return long >= 1000 ? `${short(long / 1000)} µm` : `${short(long)} nm`;
    }

    stage.addEventListener("wheel", event => {
      if (event.deltaY > 0 && view.scale <= 1) return;  // nothing is further away: the page scrolls
      event.preventDefault();
      zoom(view, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), at(event));
    }, { passive: false });

    const fingers = new Map();
    stage.addEventListener("pointerdown", event => {
      if (event.button) return;
      fingers.set(event.pointerId, at(event));
      if (view.scale > 1 || fingers.size > 1) {
        stage.setPointerCapture(event.pointerId);
        stage.classList.add("moving");
      }
    });
    stage.addEventListener("pointermove", event => {
      const now = at(event), pixel = Math.floor((now.x - view.x) / view.scale * width);
      const height = Number(figure.dataset.height);
      const row = Math.floor((now.y - view.y) / view.scale * height);
      where.textContent = `x ${place(pixel + Number(figure.dataset.x))}, y ${place(row + Number(figure.dataset.y))}`;
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, spot]) => spot);
      fingers.set(event.pointerId, now);
      if (others.length) {
        const other = others[0], length = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1e-6;
        zoom(view, length(now, other) / length(before, other), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      } else if (view.scale > 1) {
        moveTo(view, view.scale, view.x + now.x - before.x, view.y + now.y - before.y);
      }
    });
    const place = pixel => nm === null ? `${pixel} px` : `${(pixel * nm).toFixed(nm < 1 ? 2 : 0)} nm`;
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      stage.addEventListener(end, event => {
        fingers.delete(event.pointerId);
        if (!fingers.size) stage.classList.remove("moving");
        if (end === "pointerleave") where.textContent = "";
      });
    }

    stage.addEventListener("dblclick", event => zoom(view, 2, at(event)));
    stage.addEventListener("keydown", event => {
      const step = 0.15, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.key === "+" || event.key === "=") zoom(view, 1.5, middle);
      else if (event.key === "-") zoom(view, 1 / 1.5, middle);
      else if (event.key === "0") moveTo(view, 1, 0, 0);
      else if (event.key in moves && view.scale > 1) {
        const [x, y] = moves[event.key];
        moveTo(view, view.scale, view.x + x, view.y + y);
      } else return;
      event.preventDefault();
    });
    for (const button of figure.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        if (button.dataset.zoom === "fit") moveTo(view, 1, 0, 0);
        else zoom(view, button.dataset.zoom === "in" ? 1.5 : 1 / 1.5, middle);
      });
    }
    new ResizeObserver(draw).observe(stage);
    return { draw };
  }

  function short(number) {
    return Number(number.toPrecision(3)).toString();
  }
})();
