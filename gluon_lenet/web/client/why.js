// A net, its trace and its answer -> which units of the last layer, and which patches of the input, spoke for it.
import { button, make } from "./dom.js";
import { drawScale, rangeOf } from "./colours.js";
import { occlude, shares } from "./explain.js";
import { Maps } from "./maps.js";
import { logits } from "./net.js";
import { plus, signed, show, t } from "./texts.js";

const SLICE = 8; // milliseconds of work between two frames
const PAUSE = 250; // milliseconds without a change before the patches are computed
const MOST = 4; // units listed for and against

/** The panel of one net; `element` stands in the page. `choose` opens a unit of the net. */
export class Why {
  constructor(net, choose) {
    Object.assign(this, { net, choose, alone: false, job: 0, timer: null, state: null });
    const last = net.layers[net.layers.length - 1];
    this.units = new Maps(last.in, { label: t("unitsLabel") });
    this.patches = new Maps([1, 28, 28], { label: t("patchesLabel") });
    this.title = make("h3");
    this.sum = make("p", { class: "formula" });
    this.lists = make("div", { class: "speakers" });
    this.legends = [this.units, this.patches].map(() => ({ scale: make("canvas", { class: "scale" }), least: make("span"), most: make("span") }));
    const legend = ({ scale, least, most }) => make("div", { class: "legend" }, least, scale, most);
    this.toggle = button("", () => this.switchRival(), { class: "quiet" });
    this.unitsHead = make("h4", {}, t("byUnits"));
    const left = make("div", {}, this.unitsHead, this.toggle, make("div", { class: "row" }, make("div", { class: "vectorbox" }, this.units.element, legend(this.legends[0])), this.lists), this.sum);
    this.note = make("p", { class: "note" });
    const right = make("div", {}, make("h4", {}, t("byPatches")), make("div", { class: "row" }, make("div", { class: "patchbox" }, this.patches.element, legend(this.legends[1])), this.note));
    this.element = make("section", { class: "panel why" }, this.title, make("div", { class: "split even" }, left, right));
    this.element.hidden = true;
  }

  /** @param {(image: Uint8Array) => Float32Array} toInput  the net's preprocessing */
  update(trace, image, toInput, probabilities) {
    this.element.hidden = !probabilities;
    this.job++;
    clearTimeout(this.timer);
    if (!probabilities) return;
    const order = Array.from(probabilities, (p, i) => [p, i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const [winner, rival] = [order[0][1], order[1] ? order[1][1] : null];
    this.state = { trace, image, toInput, winner, rival };
    this.title.textContent = t("whyTitle", { name: this.net.classes[winner], net: this.net.title });
    this.showUnits();
    this.timer = setTimeout(() => this.showPatches(), PAUSE);
  }

  switchRival() {
    this.alone = !this.alone;
    this.showUnits();
  }

  showUnits() {
    const { trace, winner, rival } = this.state;
    const names = { winner: this.net.classes[winner], rival: rival === null ? "" : this.net.classes[rival] };
    const against = this.alone || rival === null ? null : rival;
    const found = shares(this.net, trace, winner, against);
    const range = rangeOf([...found.shares, -1e-9]);
    this.units.draw(found.shares, range);
    this.showLegend(0, range);
    this.toggle.textContent = t(against === null ? "ratherThan" : "forAlone", names);
    this.unitsHead.textContent = t(against === null ? "byUnitsAlone" : "byUnits", names);
    const total = found.shares.reduce((a, b) => a + b, 0);
    const bias = found.bias ? ` ${plus(found.bias)} (${t("bias")})` : "";
    const result = t(against === null ? "scoreOf" : "leadOf", names);
    this.sum.replaceChildren(make("span", {}, `${show(total)} (${t("sumOf", { n: found.shares.length })})${bias} = ${show(found.total)}${result}`));
    const order = Array.from(found.shares, (x, i) => [x, i]).sort((a, b) => b[0] - a[0]);
    const forIt = order.filter(([x]) => x > 0).slice(0, MOST);
    const againstIt = order.filter(([x]) => x < 0).slice(-MOST).reverse();
    this.lists.replaceChildren(this.list(t("speaksFor"), forIt), this.list(t("speaksAgainst"), againstIt));
  }

  list(name, entries) {
    const before = this.net.layers.length - 2;
    const open = (i) => {
      const [, height, width] = this.net.layers[before].out;
      this.choose({ layer: before, map: Math.floor(i / (height * width)), row: Math.floor(i / width) % height, column: i % width });
    };
    const item = ([x, i]) => {
      const text = `${before < 0 ? t("input") : this.net.layers[before].name} ${i + 1}: ${signed(x)}`;
      return make("li", {}, before < 0 ? text : button(text, () => open(i), { class: "chip" }));
    };
    return make("div", {}, make("h5", {}, name), make("ul", {}, ...(entries.length ? entries.map(item) : [make("li", {}, "–")])));
  }

  /** Rub out patch by patch, in slices of time so that drawing stays smooth. */
  showPatches() {
    const { trace, image, toInput, winner } = this.state;
    const job = ++this.job;
    this.note.textContent = t("patchesWait");
    const patches = occlude(this.net, image, 28, toInput, winner);
    const work = () => {
      if (job !== this.job) return;
      const end = performance.now() + SLICE;
      while (performance.now() < end) {
        const { value, done } = patches.next();
        if (done) return;
        if (value) this.finish(value, trace, winner);
      }
      setTimeout(work, 0);
    };
    work();
  }

  finish(losses, trace, winner) {
    const range = rangeOf([...losses, -1e-9]);
    this.patches.draw(losses, range);
    this.showLegend(1, range);
    this.note.textContent = t("patchesNote", { name: this.net.classes[winner], logit: show(logits(trace)[winner]) });
    this.element.dataset.patches = "done";
  }

  showLegend(number, range) {
    const { scale, least, most } = this.legends[number];
    drawScale(scale, range);
    [least.textContent, most.textContent] = [show(range.least), show(range.most)];
  }
}

