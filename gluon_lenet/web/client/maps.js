// A layer's shape and values -> its maps as one picture, with frames around cells; a pointer or keys -> a cell.
import { make } from "./dom.js";
import { levelOf, rangeOf, tableOf } from "./colours.js";

const LINE = 0x38808080; // alpha, blue, green, red

/** How n maps are laid out: a row for few, LeNet's 7 x 12 for 84 units, else nearly square. */
export function columnsFor([maps, height, width], wide = false) {
  if (height * width === 1) return maps === 84 ? 7 : maps === 10 ? 1 : Math.max(1, Math.round(Math.sqrt(maps / 1.6)));
  if (wide) return Math.min(maps, Math.max(2, Math.round(Math.sqrt(maps * 2.6))));
  return maps <= 8 ? Math.min(maps, 2) : Math.round(Math.sqrt(maps));
}

/** The maps of one layer; `element` stands in the page. */
export class Maps {
  /** @param {number[]} shape  [maps, height, width] */
  constructor(shape, { columns = columnsFor(shape), label = "" } = {}) {
    const [maps, height, width] = shape;
    Object.assign(this, { shape, columns, gap: height * width === 1 ? 0 : 1, range: null });
    this.rows = Math.ceil(maps / columns);
    this.width = columns * (width + this.gap) - this.gap;
    this.height = this.rows * (height + this.gap) - this.gap;
    this.canvas = make("canvas", { width: this.width, height: this.height, "aria-hidden": "true" });
    this.frames = make("div", { class: "frames", "aria-hidden": "true" });
    this.element = make("div", { class: "maps" }, this.canvas, this.frames);
    if (label) Object.assign(this.element, { role: "img", ariaLabel: label });
    this.element.style.aspectRatio = `${this.width} / ${this.height}`;
    this.pixels = new ImageData(this.width, this.height);
    this.separate();
  }

  /** Paint the lines between maps, in a grey that suits light and dark pages. */
  separate() {
    if (!this.gap) return;
    const words = new Uint32Array(this.pixels.data.buffer);
    const [maps, height, width] = this.shape;
    for (let map = 0; map < maps; map++) {
      const { top, left } = this.corner(map);
      const [bottom, right] = [Math.min(top + height, this.height - 1), Math.min(left + width, this.width - 1)];
      for (let row = top; row <= bottom; row++) words[row * this.width + right] = LINE;
      for (let column = left; column <= right; column++) words[bottom * this.width + column] = LINE;
    }
  }

  /** Draw the values (channel, row, column); `range` by default theirs. */
  draw(values, range = rangeOf(values)) {
    this.range = range;
    const [maps, height, width] = this.shape;
    const table = tableOf(range);
    const { data } = this.pixels;
    for (let map = 0, i = 0; map < maps; map++) {
      const { top, left } = this.corner(map);
      for (let row = 0; row < height; row++) {
        let at = 4 * ((top + row) * this.width + left);
        for (let column = 0; column < width; column++, i++, at += 4) {
          const level = 3 * levelOf(values[i], range);
          data[at] = table[level];
          data[at + 1] = table[level + 1];
          data[at + 2] = table[level + 2];
          data[at + 3] = 255;
        }
      }
    }
    this.canvas.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  /** The picture's pixel of a map's first cell. */
  corner(map) {
    const [, height, width] = this.shape;
    return {
      top: Math.floor(map / this.columns) * (height + this.gap),
      left: (map % this.columns) * (width + this.gap),
    };
  }

  /** Put a frame around rows top to bottom, columns left to right of each of the maps; `kind` is a class of CSS. */
  frame(region, kind) {
    const [maps, height, width] = this.shape;
    const isWhole = region.maps.length === maps && region.bottom - region.top === height && region.right - region.left === width;
    if (isWhole) {
      this.frames.append(make("div", { class: `frame whole ${kind}` }));
      return;
    }
    for (const map of region.maps) {
      const corner = this.corner(map);
      const box = make("div", { class: `frame ${kind}` });
      const share = (x, whole) => `${(100 * x) / whole}%`;
      box.style.top = share(corner.top + region.top, this.height);
      box.style.left = share(corner.left + region.left, this.width);
      box.style.height = share(region.bottom - region.top, this.height);
      box.style.width = share(region.right - region.left, this.width);
      this.frames.append(box);
    }
  }

  clearFrames() {
    this.frames.replaceChildren();
  }

  /** The cell under a pointer, or null between maps. */
  cellAt(event) {
    const box = this.element.getBoundingClientRect();
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const [maps, height, width] = this.shape;
    const [down, across] = [Math.floor(y / (height + this.gap)), Math.floor(x / (width + this.gap))];
    const map = down * this.columns + across;
    const [row, column] = [y - down * (height + this.gap), x - across * (width + this.gap)];
    const isInside = across >= 0 && across < this.columns && map >= 0 && map < maps && row >= 0 && row < height && column >= 0 && column < width;
    return isInside ? { map, row, column } : null;
  }

  /** The cell that an arrow key leads to, across the borders of maps; null for other keys. */
  cellAfter(key, { map, row, column }) {
    const [maps, height, width] = this.shape;
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
    if (!step) return null;
    const next = { map, row: row + step[0], column: column + step[1] };
    if (next.column < 0) Object.assign(next, { map: map - 1, column: width - 1 });
    if (next.column >= width) Object.assign(next, { map: map + 1, column: 0 });
    if (next.row < 0) Object.assign(next, { map: map - this.columns, row: height - 1 });
    if (next.row >= height) Object.assign(next, { map: map + this.columns, row: 0 });
    return next.map >= 0 && next.map < maps ? next : { map, row, column };
  }
}
