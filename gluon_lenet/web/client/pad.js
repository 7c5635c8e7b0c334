// A mouse, fingers or keys -> a drawing, uint8 392x392, 0 is paper; the page need not read it back from a canvas.
import { make } from "./dom.js";
import { isDark } from "./colours.js";
import { toSegment } from "./change.js";
import { clamp } from "./numbers.js";

export const PAD = 392; // pixels a side: 28 x 14, and no more than `predict` works with (400)
const MOST_UNDO = 30;
const STEP = 14; // pixels that an arrow key moves the pen; with Shift a fifth of it

/**
 * The pad; `element` is its canvas. Calls `onchange(is_over)` after each stroke's part, is_over at its end; before that
 * `onbegin` for a new stroke, `onreplace` if the drawing is cleared or undone.
 */
export class Pad {
  constructor({ onchange, onbegin = () => {}, onreplace = () => {}, label }) {
    Object.assign(this, { onchange, onbegin, onreplace, pen: 17, ink: new Uint8Array(PAD * PAD), past: [], last: null, pointer: null });
    this.cursor = { x: PAD / 2, y: PAD / 2, shown: false };
    this.element = make("canvas", { width: PAD, height: PAD, tabIndex: 0, role: "application", ariaLabel: label });
    this.element.addEventListener("pointerdown", (event) => this.down(event));
    this.element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) this.element.addEventListener(name, (event) => this.up(event));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("blur", () => this.pointer === null && this.lift(false)); // the keyboard's pen
    this.paint();
  }

  get isEmpty() {
    return !this.ink.some(Boolean);
  }

  remember() {
    this.past.push(this.ink.slice());
    if (this.past.length > MOST_UNDO) this.past.shift();
  }

  clear() {
    if (!this.isEmpty) this.remember();
    this.replace(new Uint8Array(PAD * PAD));
  }

  undo() {
    if (this.past.length) this.replace(this.past.pop());
  }

  replace(ink) {
    this.onreplace();
    this.ink = ink;
    this.paint();
    this.onchange(true);
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * PAD, y: ((event.clientY - box.top) / box.height) * PAD };
  }

  down(event) {
    if (this.pointer !== null || event.button > 0) return;
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.cursor.shown = false;
    this.element.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.begin(this.place(event));
  }

  move(event) {
    if (event.pointerId !== this.pointer || !this.last) return; // Delete ends a stroke, too
    const parts = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const part of parts.length ? parts : [event]) this.lineTo(this.place(part));
    this.changed(false);
  }

  up(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.lift();
  }

  begin(point) {
    this.onbegin();
    this.remember();
    this.last = point;
    this.lineTo(point);
    this.changed(false);
  }

  lift(mayTell = true) {
    if (!this.last) return;
    this.last = null;
    this.changed(mayTell);
  }

  changed(isOver) {
    this.paint();
    this.onchange(isOver);
  }

  /** Arrows move the pen, the space bar puts it down or lifts it, Delete clears, Ctrl+Z undoes. */
  key(event) {
    const step = event.shiftKey ? STEP / 5 : STEP;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) {
      this.cursor.x = clamp(this.cursor.x + move[0], 0, PAD);
      this.cursor.y = clamp(this.cursor.y + move[1], 0, PAD);
      if (this.last) this.lineTo({ x: this.cursor.x, y: this.cursor.y });
    } else if (event.key === " " && !event.repeat) {
      if (this.last) this.lift();
      else this.begin({ x: this.cursor.x, y: this.cursor.y });
    } else if (event.key === "Delete" || event.key === "Backspace" || event.key === "Escape") {
      this.lift(false);
      this.clear();
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else return;
    event.preventDefault();
    this.cursor.shown = true;
    if (this.last) this.changed(false);
    else this.paint();
  }

  /** Add a line with round ends from the last point: full ink within the pen's radius, one pixel of soft edge. */
  lineTo(point) {
    const { x: x0, y: y0 } = this.last;
    const reach = this.pen + 1;
    const [top, bottom] = [Math.min(y0, point.y) - reach, Math.max(y0, point.y) + reach];
    const [left, right] = [Math.min(x0, point.x) - reach, Math.max(x0, point.x) + reach];
    for (let y = Math.max(0, Math.floor(top)); y < Math.min(PAD, bottom); y++) {
      for (let x = Math.max(0, Math.floor(left)); x < Math.min(PAD, right); x++) {
        const level = 255 * clamp(this.pen + 0.5 - toSegment(x + 0.5, y + 0.5, x0, y0, point.x, point.y), 0, 1);
        if (level > this.ink[y * PAD + x]) this.ink[y * PAD + x] = level;
      }
    }
    this.last = point;
  }

  /** Show the drawing: dark on light, or light on dark in a dark page; and the keyboard's pen. */
  paint() {
    const context = this.element.getContext("2d");
    const pixels = context.createImageData(PAD, PAD);
    const words = new Uint32Array(pixels.data.buffer);
    const [paper, ink] = isDark() ? [30, 240] : [255, 22];
    for (let i = 0; i < words.length; i++) {
      const level = paper + ((ink - paper) * this.ink[i]) / 255;
      words[i] = 0xff000000 | (level << 16) | (level << 8) | level;
    }
    context.putImageData(pixels, 0, 0);
    if (!this.cursor.shown) return;
    context.lineWidth = 3;
    context.strokeStyle = isDark() ? "#f59ac0" : "#b8125c";
    context.beginPath();
    context.arc(this.cursor.x, this.cursor.y, this.pen, 0, 2 * Math.PI);
    context.stroke();
    if (this.last) return;
    context.beginPath();
    context.arc(this.cursor.x, this.cursor.y, 2, 0, 2 * Math.PI);
    context.stroke();
  }
}
