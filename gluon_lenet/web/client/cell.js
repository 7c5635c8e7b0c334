// A unit and the values of the layer before -> its computation in numbers, and the input pixels that it sees.
import { button, make } from "./dom.js";
import { cellColours, rangeOf } from "./colours.js";
import { explain } from "./explain.js";
import { Maps } from "./maps.js";
import { plus, show, signed, t } from "./texts.js";

const MOST_CELLS = 49; // a window of more is shown as colours without numbers
const MOST_PARTS = 6; // maps whose sums are listed one by one
const MOST_TERMS = 5; // largest products that are listed

/** The panel of one cell; `element` stands in the page. `choose` opens another unit. */
export class Cell {
  constructor(net, choose) {
    Object.assign(this, { net, choose, wanted: null, state: null });
    this.title = make("h4");
    this.body = make("div", { class: "work" });
    this.field = new Maps(net.input, { label: t("seesLabel") });
    this.fieldText = make("p");
    const sees = make("div", { class: "sees" }, make("h5", {}, t("sees")), this.field.element, this.fieldText);
    this.element = make("section", { class: "panel cell" }, this.title, make("div", { class: "split" }, this.body, sees));
  }

  show(trace, unit, ranges, regions) {
    this.state = [trace, unit, ranges, regions];
    const layer = this.net.layers[unit.layer];
    const found = explain(this.net, trace, unit);
    this.title.textContent = t("howComputed", { name: layer.name });
    const chosen = this.chosenPart(found.parts);
    this.body.replaceChildren(...this.work(layer, found, chosen, unit));
    this.showField(trace, ranges, regions[0]);
  }

  /** The map that the reader asked for, else the one with the largest sum. */
  chosenPart(parts) {
    const largest = parts.reduce((a, b) => (Math.abs(b.sum) > Math.abs(a.sum) ? b : a));
    return parts.find(({ map }) => map === this.wanted) || largest;
  }

  work(layer, found, chosen, unit) {
    if (layer.kind === "dense" || layer.kind === "rbf") return this.flatWork(layer, found, unit);
    const before = this.net.layers[unit.layer - 1];
    const name = before ? t("mapOf", { name: before.name, n: chosen.map + 1 }) : t("input");
    const grids = [this.grid(name, chosen, chosen.values, chosen.winner)];
    if (chosen.weights) {
      grids.push(sign("×"), this.grid(t("weights"), chosen, chosen.weights));
      grids.push(sign("="), this.grid(t("products"), chosen, chosen.products));
    }
    const chips = found.parts.length > 1 ? this.chips(found.parts, chosen) : null;
    return [make("div", { class: "grids" }, ...grids), chips, this.formula(layer, found)].filter(Boolean);
  }

  /** Numbers on their colours. */
  grid(name, { height, width }, values, marked = -1) {
    const range = rangeOf(values.filter((x) => !Number.isNaN(x)));
    const cells = values.map((x, i) => {
      const cell = make("td", { class: i === marked ? "marked" : "" }, height * width > MOST_CELLS ? "" : Number.isNaN(x) ? "·" : show(x));
      Object.assign(cell.style, cellColours(x, range));
      return cell;
    });
    const rows = Array.from({ length: height }, (_, row) => make("tr", {}, ...cells.slice(row * width, (row + 1) * width)));
    return make("table", { class: "grid" }, make("caption", {}, name), make("tbody", {}, ...rows));
  }

  /** One button for each map that is summed. */
  chips(parts, chosen) {
    const buttons = parts.map((one) =>
      button(`${one.map + 1}: ${signed(one.sum)}`, () => this.want(one.map), {
        class: "chip",
        ariaPressed: String(one === chosen),
        ariaLabel: t("chip", { n: one.map + 1, sum: signed(one.sum) }),
      }),
    );
    return make("div", { class: "chips" }, make("span", {}, t("sumsByMap")), ...buttons);
  }

  want(map) {
    this.wanted = map;
    this.show(...this.state);
    this.body.querySelector('[aria-pressed="true"]').focus({ preventScroll: true }); // the buttons were made anew
  }

  flatWork(layer, { parts, bias, before, value }, unit) {
    const [maps, height, width] = layer.in;
    const name = this.net.layers[unit.layer - 1]?.name || t("input");
    const picture = (caption, values) => {
      const all = Float32Array.from(values);
      const view = new Maps([maps, height, width]);
      view.draw(all, rangeOf(all));
      return make("figure", { class: "vector" }, view.element, make("figcaption", {}, caption));
    };
    const flat = (key) => parts.flatMap((one) => one[key]);
    const products = flat("products");
    const isRbf = layer.kind === "rbf";
    const pictures = make(
      "div",
      { class: "grids" },
      picture(t("valuesOf", { name }), flat("values")),
      sign(isRbf ? "−" : "×"),
      picture(t(isRbf ? "centre" : "weights"), flat("weights")),
      sign("→"),
      picture(t(isRbf ? "distances" : "products"), products),
    );
    return [pictures, this.terms(products, flat("values"), flat("weights"), isRbf), this.formula(layer, { parts, bias, before, value })];
  }

  /** The largest products, written out. */
  terms(products, values, weights, isRbf) {
    const order = products.map((x, i) => [Math.abs(x), i]).sort((a, b) => b[0] - a[0]).slice(0, MOST_TERMS);
    const items = order.map(([, i]) => {
      const [x, w] = [show(values[i]), show(weights[i])];
      const text = isRbf ? `−(${x} − ${weights[i] < 0 ? `(${w})` : w})² = ${show(products[i])}` : `${x} × ${w} = ${show(products[i])}`;
      return make("li", {}, text);
    });
    return make("div", { class: "terms" }, make("span", {}, t("largestTerms", { n: products.length })), make("ul", {}, ...items));
  }

  /** sum + bias = value before the activation; the activation of it. */
  formula(layer, { parts, bias, before, value }) {
    const lines = [];
    if (layer.kind === "pool") {
      lines.push(`${t(layer.how === "max" ? "largestOf" : "meanOf", { n: parts[0].values.filter((x) => !Number.isNaN(x)).length })} = ${show(value)}`);
    } else {
      const terms = parts.reduce((sum, { products }) => sum + products.length, 0);
      const isListed = layer.kernel && parts.length > 1 && parts.length <= MOST_PARTS;
      const sums = parts.map(({ sum }, i) => (i ? plus(sum) : show(sum))).join(" ");
      const all = `${show(parts.reduce((a, { sum }) => a + sum, 0))} (${t("sumOf", { n: terms })})`;
      lines.push(`${isListed ? sums : all}${bias === null ? "" : ` ${plus(bias)} (${t("bias")})`} = ${show(before)}`);
    }
    if (layer.act) lines.push(`${t(`act.${layer.act}`)}(${show(before)}) = ${show(value)}`);
    return make("p", { class: "formula" }, ...lines.map((line) => make("span", {}, line)));
  }

  showField(trace, ranges, region) {
    this.field.draw(trace.values[0], ranges[0]);
    this.field.clearFrames();
    this.field.frame(region, "own");
    const [height, width] = [region.bottom - region.top, region.right - region.left];
    const isAll = height === this.net.input[1] && width === this.net.input[2];
    this.fieldText.textContent = isAll
      ? t("seesAll", { size: `${height}×${width}` })
      : t("seesPart", { size: `${height}×${width}`, top: region.top + 1, bottom: region.bottom, left: region.left + 1, right: region.right });
  }
}

const sign = (text) => make("span", { class: "sign", "aria-hidden": "true" }, text);
