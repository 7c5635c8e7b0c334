// A net and its trace -> all its layers side by side, one layer in large, one cell's computation; from each to the next.
import { button, make, prefersStill } from "./dom.js";
import { drawScale, rangeOf } from "./colours.js";
import { Maps, columnsFor } from "./maps.js";
import { regions, indexOf } from "./explain.js";
import { Cell } from "./cell.js";
import { argmax } from "./numbers.js";
import { show, t } from "./texts.js";

const PLAY = 180; // milliseconds a step

/** "convolution 5x5, sigmoid": what a layer does. */
export function describeLayer(layer) {
  const window = layer.kernel ? ` ${layer.kernel.join("×")}` : "";
  const kind = t(layer.kind === "pool" ? `kind.${layer.how}` : `kind.${layer.kind}`);
  return `${kind}${window}${layer.act ? `, ${t(`act.${layer.act}`)}` : ""}`;
}

export function describeShape([maps, height, width]) {
  return height * width === 1 ? t("units", { n: maps }) : t("maps", { n: maps, size: `${height}×${width}` });
}

/** The views of one net; `element` stands in the page. A unit is chosen by pointing, clicking or keys. */
export class Inside {
  /** @param {?Unit} unit  the cell chosen at the start; by default a convolution's with the largest value */
  constructor(net, unit = null) {
    Object.assign(this, { net, trace: null, timer: null, isGiven: Boolean(unit) });
    this.unit = unit || { layer: Math.max(net.layers.findIndex(({ kind }) => kind === "conv"), 0), map: 0, row: 0, column: 0 };
    this.ranges = [];
    this.columns = [this.column(-1), ...net.layers.map((_, i) => this.column(i))];
    this.overview = make("div", { class: "overview", role: "group", ariaLabel: t("overview") }, ...this.columns.map(({ element }) => element));
    this.trail = make("nav", { class: "trail", ariaLabel: t("trail") });
    this.large = make("div", { class: "large" });
    this.cell = new Cell(net, (unit) => this.choose(unit));
    this.stepper = this.makeStepper();
    const layer = make("section", { class: "panel layer" }, (this.layerTitle = make("h4")), this.large, this.stepper);
    this.element = make("div", { class: "inside" }, this.overview, this.trail, make("div", { class: "closer" }, layer, this.cell.element));
    this.openLayer();
  }

  /** One layer of the overview, -1 for the input. */
  column(index) {
    const layer = this.net.layers[index];
    const shape = layer ? layer.out : this.net.input;
    const isLast = index === this.net.layers.length - 1;
    const maps = new Maps(shape, isLast ? { columns: 1 } : {}); // beside its classes' names
    const scale = make("canvas", { class: "scale", "aria-hidden": "true" });
    const [least, most] = [make("span"), make("span")];
    const name = make("strong", {}, layer ? layer.name : t("input"));
    const what = make("span", {}, layer ? describeLayer(layer) : `${shape[1]}×${shape[2]}`);
    const head = make("div", { class: "layerhead" }, name, what);
    const legend = make("div", { class: "legend" }, least, scale, most);
    if (layer) this.listen(maps, index);
    const names = isLast ? make("div", { class: "names", "aria-hidden": "true" }, ...this.net.classes.map((n) => make("span", {}, n))) : null;
    const body = isLast ? make("div", { class: "named" }, maps.element, names) : maps.element;
    const element = make("div", { class: `column ${shape[1] * shape[2] === 1 ? "thin" : ""}` }, head, body, legend);
    return { element, maps, scale, least, most };
  }

  /** Pointing previews a cell, a click or Enter keeps it, arrows move it. */
  listen(maps, index) {
    const { element } = maps;
    const layer = this.net.layers[index];
    Object.assign(element, { tabIndex: 0, role: "button" });
    element.ariaLabel = t("layerLabel", { name: layer.name, what: describeLayer(layer), shape: describeShape(layer.out) });
    const at = (event) => {
      const cell = maps.cellAt(event);
      return cell && { layer: index, ...cell };
    };
    element.addEventListener("pointermove", (event) => {
      const unit = event.pointerType === "mouse" && event.buttons === 0 && at(event);
      if (unit) this.preview(unit);
    });
    element.addEventListener("pointerleave", () => this.preview(null));
    element.addEventListener("click", (event) => {
      const unit = at(event) || (event.detail === 0 ? this.inLayer(index) : null); // 0: by a key or a screen reader
      if (unit) this.choose(unit);
    });
    element.addEventListener("keydown", (event) => this.key(event, maps, index));
  }

  key(event, maps, index) {
    const unit = this.inLayer(index);
    const next = maps.cellAfter(event.key, unit);
    if (next) this.choose({ layer: index, ...next });
    else if (event.key === "Enter" || event.key === " ") this.choose(unit);
    else return;
    event.preventDefault();
  }

  /** The chosen unit if it is in this layer, else the layer's middle cell. */
  inLayer(index) {
    if (this.unit.layer === index) return this.unit;
    const [, height, width] = this.net.layers[index].out;
    return { layer: index, map: 0, row: height >> 1, column: width >> 1 };
  }

  choose(unit) {
    const isNew = unit.layer !== this.unit.layer;
    this.unit = unit;
    this.previewed = null;
    if (isNew) this.openLayer();
    this.showUnit();
  }

  preview(unit) {
    this.previewed = unit;
    this.showUnit();
  }

  /** Make the picture of the chosen layer in large. */
  openLayer() {
    const { layer: index } = this.unit;
    const layer = this.net.layers[index];
    this.layerMaps = new Maps(layer.out, { columns: columnsFor(layer.out, true) });
    this.listen(this.layerMaps, index);
    const isFlat = layer.out[1] * layer.out[2] === 1;
    this.layerMaps.element.style.maxWidth = isFlat ? `${Math.min(this.layerMaps.width * 30, 480)}px` : "none";
    this.stepHint.hidden = !layer.kernel;
    this.layerTitle.textContent = `${layer.name}: ${describeShape(layer.out)} · ${describeLayer(layer)}`;
    this.large.replaceChildren(this.layerMaps.element);
  }

  makeStepper() {
    const back = button("◀", () => this.step(-1), { ariaLabel: t("stepBack"), title: t("stepBack") });
    const on = button(`${t("step")} ▶`, () => this.step(1), { class: "main" });
    this.player = prefersStill() ? null : button(t("play"), () => this.play());
    return make("div", { class: "stepper" }, back, on, this.player, (this.stepHint = make("span", { class: "hint" }, t("stepHint"))));
  }

  /** Slide the window by one cell, row by row, then to the next map. */
  step(by) {
    const layer = this.net.layers[this.unit.layer];
    const [maps, height, width] = layer.out;
    const count = maps * height * width;
    const i = (indexOf(layer, this.unit) + by + count) % count;
    this.choose({ layer: this.unit.layer, map: Math.floor(i / (height * width)), row: Math.floor(i / width) % height, column: i % width });
  }

  play() {
    if (this.timer) clearInterval(this.timer);
    this.timer = this.timer ? null : setInterval(() => (this.element.isConnected ? this.step(1) : this.play()), PLAY);
    this.player.textContent = t(this.timer ? "pause" : "play");
  }

  /** Draw everything for a new input. */
  update(trace) {
    if (!this.trace && !this.isGiven) this.unit = strongest(this.net, trace, this.unit.layer);
    this.trace = trace;
    this.columns.forEach(({ maps, scale, least, most }, i) => {
      const values = trace.values[i];
      const range = i === 0 ? { ...rangeOf(values), signed: false, ink: true, least: Math.min(...values) } : rangeOf(values);
      maps.draw(values, range);
      drawScale(scale, range);
      [least.textContent, most.textContent] = [show(range.least), show(range.most)];
      this.ranges[i] = range;
    });
    this.showUnit();
  }

  /** Mark the unit, its window and what it sees in the layers before; show its computation. */
  showUnit() {
    if (!this.trace) return;
    const unit = this.previewed || this.unit;
    const seen = regions(this.net, unit);
    const own = { top: unit.row, bottom: unit.row + 1, left: unit.column, right: unit.column + 1, maps: [unit.map] };
    this.columns.forEach(({ maps, element }, i) => {
      maps.clearFrames();
      element.classList.toggle("open", i - 1 === this.unit.layer);
      if (i === unit.layer + 1) maps.frame(own, "own");
      else if (i <= unit.layer) maps.frame(seen[i], i === unit.layer ? "window" : "field");
    });
    this.layerMaps.draw(this.trace.values[this.unit.layer + 1], this.ranges[this.unit.layer + 1]);
    this.layerMaps.clearFrames();
    if (unit.layer === this.unit.layer) this.layerMaps.frame(own, "own");
    this.showTrail(unit);
    this.cell.show(this.trace, unit, this.ranges, seen);
  }

  showTrail(unit) {
    const layer = this.net.layers[unit.layer];
    const [, height, width] = layer.out;
    const isFlat = height * width === 1;
    const to = (element) => () => element.scrollIntoView({ behavior: prefersStill() ? "auto" : "smooth", block: "nearest" });
    const isLast = unit.layer === this.net.layers.length - 1;
    const name = isLast ? this.net.classes[unit.map] : t("unitNumber", { n: unit.map + 1 });
    const place = isFlat ? name : t("place", { map: unit.map + 1, row: unit.row + 1, column: unit.column + 1 });
    const value = this.trace.values[unit.layer + 1][indexOf(layer, unit)];
    this.trail.replaceChildren(
      button(t("wholeNet"), to(this.overview)),
      make("span", { "aria-hidden": "true" }, "›"),
      button(`${layer.name} ${describeLayer(layer)}`, to(this.large)),
      make("span", { "aria-hidden": "true" }, "›"),
      make("span", { ariaLive: "polite", class: "here" }, `${place}: ${show(value)}`),
    );
  }
}

/** The unit of a layer with the largest value: where something can be seen. */
function strongest(net, trace, layer) {
  const [, height, width] = net.layers[layer].out;
  const i = argmax(trace.values[layer + 1]);
  return { layer, map: Math.floor(i / (height * width)), row: Math.floor(i / width) % height, column: i % width };
}
