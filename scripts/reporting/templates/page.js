"use strict";
// Viewers: one image at a time, with a layer above it. All texts are set as text, never as HTML.
function viewer(root) {
  const pictures = JSON.parse(document.getElementById(root.dataset.pictures).textContent);
  const find = (selector) => root.querySelector(selector);
  const stage = find(".stage"), canvas = find(".canvas"), layers = find(".layers"), slider = find(".opacity input");
  const shown = { picture: 0, layer: "", scale: 1, x: 0, y: 0, opacity: {} };

  const picture = () => pictures[shown.picture];
  const layer = () => picture().layers.find((one) => one.name === shown.layer);
  const fit = () => Math.min(stage.clientWidth / picture().shown[1], stage.clientHeight / picture().shown[0]);

  function place() {
    const [height, width] = picture().shown, scale = fit() * shown.scale;
    const room = (outer, inner) => (inner <= outer ? [(outer - inner) / 2, (outer - inner) / 2] : [outer - inner, 0]);
    const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
    shown.x = clamp(shown.x, room(stage.clientWidth, width * scale));
    shown.y = clamp(shown.y, room(stage.clientHeight, height * scale));
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    canvas.style.transform = `translate(${shown.x}px, ${shown.y}px) scale(${scale})`;
    canvas.classList.toggle("large", scale > 1.5);
    stage.classList.toggle("zoomed", shown.scale > 1);
    find(".zoom output").textContent = Math.round((100 * scale * width) / picture().size[1]) + " %";
  }

  function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const before = shown.scale;
    shown.scale = Math.min(Math.max(before * factor, 1), 32);
    shown.x = x - ((x - shown.x) * shown.scale) / before;
    shown.y = y - ((y - shown.y) * shown.scale) / before;
    place();
  }

  function image(src, alt) {
    const element = document.createElement("img");
    element.src = src;
    element.alt = alt;
    element.draggable = false;
    return element;
  }

  function draw() {
    const one = layer(), parts = [image(picture().base, "image " + picture().title)];
    if (one) {
      const above = image(one.src, one.name + " of " + picture().title);
      above.style.opacity = slider.value / 100;
      parts.push(above);
    }
    canvas.replaceChildren(...parts);
    find(".opacity output").textContent = slider.value + " %";
    slider.disabled = !one;
    const legend = (one ? one.legend : []).map(({ name, colour }) => {
      const entry = document.createElement("span"), box = document.createElement("i");
      box.style.background = colour;
      entry.append(box, name);
      return entry;
    });
    find(".below .legend").replaceChildren(...legend);
    find(".note").textContent = one ? one.note : "";
    place();
  }

  function showLayer(name) {
    shown.layer = name;
    const one = layer();
    slider.value = shown.opacity[name] ?? (one ? one.opacity : 100);
    for (const input of layers.querySelectorAll("input")) input.checked = input.value === (one ? name : "");
    draw();
  }

  function showPicture(number) {
    shown.picture = (number + pictures.length) % pictures.length;
    Object.assign(shown, { scale: 1, x: 0, y: 0 });
    const one = picture(), [height, width] = one.size;
    const reduced = one.shown[0] < height ? `, shown as ${one.shown[1]} x ${one.shown[0]}` : "";
    find(".name").textContent = `${shown.picture + 1} of ${pictures.length}: ${one.title}`;
    find(".facts").textContent = [...one.facts, `${width} x ${height} pixels${reduced}`].join("; ") + ".";
    const choices = ["", ...one.layers.map((each) => each.name)].map((name) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: root.dataset.pictures, value: name });
      input.addEventListener("change", () => showLayer(name));
      label.append(input, name || "image");
      return label;
    });
    layers.replaceChildren(layers.querySelector("legend"), ...choices);
    root.querySelectorAll(".thumbs button").forEach((button, k) => {
      button.setAttribute("aria-current", String(k === shown.picture));
      const strip = button.closest("ul");
      if (k === shown.picture) strip.scrollLeft = button.offsetLeft - strip.offsetLeft - strip.clientWidth / 2;
    });
    showLayer(shown.layer);
  }

  const acts = {
    previous: () => showPicture(shown.picture - 1),
    next: () => showPicture(shown.picture + 1),
    in: () => zoom(1.5),
    out: () => zoom(1 / 1.5),
    fit: () => zoom(0),
  };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.do) acts[button.dataset.do]();
    if (button.dataset.show) showPicture(Number(button.dataset.show));
  });
  slider.addEventListener("input", () => {
    shown.opacity[shown.layer] = slider.value;
    draw();
  });
  stage.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const act = { ArrowLeft: "previous", ArrowRight: "next", "+": "in", "=": "in", "-": "out", 0: "fit" }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.shiftKey && move) {
      shown.x += 60 * move[0];
      shown.y += 60 * move[1];
      place();
    } else if (act) acts[act]();
    else if (/^[1-9]$/.test(event.key) && layers.querySelectorAll("input")[event.key - 1]) {
      showLayer(layers.querySelectorAll("input")[event.key - 1].value);
    } else return;
    event.preventDefault();
  });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    const box = stage.getBoundingClientRect();
    zoom(2, event.clientX - box.left, event.clientY - box.top);
  });
  let held = null;
  stage.addEventListener("pointerdown", (event) => {
    held = [event.clientX - shown.x, event.clientY - shown.y];
    if (shown.scale > 1) stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held || shown.scale <= 1) return;
    shown.x = event.clientX - held[0];
    shown.y = event.clientY - held[1];
    place();
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => (held = null));
  new ResizeObserver(place).observe(stage);
  const first = picture().layers.find((one) => one.name === root.dataset.first) || picture().layers.at(-1);
  shown.layer = first ? first.name : "";
  showPicture(0);
  root.show = showPicture;
}

function sortable(table) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // missing values last
        const order = column ? x - y : x.localeCompare(y, undefined, { numeric: true });
        return up ? order : -order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

for (const root of document.querySelectorAll(".viewer")) viewer(root);
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows], wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].dataset.value.toLowerCase().includes(wanted);
    const left = rows.filter((row) => !row.hidden).length;
    input.closest("p").querySelector("output").textContent = wanted ? `${left} of ${rows.length} images` : `${left} images`;
  });
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-viewer]");
  if (!button) return;
  const root = document.querySelector(`[data-pictures="${button.dataset.viewer}"]`);
  root.show(Number(button.dataset.show));
  root.scrollIntoView({ block: "center" });
  root.querySelector(".stage").focus({ preventScroll: true });
});
