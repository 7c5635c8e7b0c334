// The page's data -> the page: what is drawn goes through every chosen net, at most once a frame.
import { Answer } from "./answer.js";
import { change, isChanged, UNCHANGED } from "./change.js";
import { Collection } from "./collection.js";
import { button, byId, download, make } from "./dom.js";
import { activate, explain, indexOf, occlude, regions, shares } from "./explain.js";
import { readPicture } from "./files.js";
import { FORMS } from "./fit.js";
import { BLANK, PictureError, sidesOf } from "./ink.js";
import { Inside } from "./inside.js";
import { Maps } from "./maps.js";
import { forward, logits, readNet } from "./net.js";
import { bytesOf, median, softmax } from "./numbers.js";
import { PAD, Pad } from "./pad.js";
import { picture } from "./resample.js";
import { png } from "./save.js";
import { knows, language, percent, t, useTexts } from "./texts.js";
import { prepare } from "./transform.js";
import { Why } from "./why.js";

const SIDE = 28;
const data = JSON.parse(byId("data").textContent);
const nets = data.nets.map(readNet);
const samples = data.samples.map((set) => ({ ...set, images: cut(bytesOf(set.images)) }));

const state = {
  chosen: [0], // nets shown, one or two
  picture: null, // a picture in place of a drawing, exactly as it was read
  isExample: true, // the first stroke takes the example away
  settings: { ...UNCHANGED },
  message: "", // what is wrong with a file
  version: 0, // of the drawing
};
const view = {}; // the parts of the page, made anew for another language

function cut(bytes) {
  return Array.from({ length: bytes.length / SIDE ** 2 }, (_, i) => bytes.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2));
}

// What a net sees

const seenBy = {}; // by form: the image 28x28 or the error, of a version of the drawing

/** The drawing in a data set's form. @returns {{image: ?Uint8Array, error: ?string}} */
function seen(form) {
  if (seenBy[form]?.version !== state.version) seenBy[form] = { version: state.version, ...see(form, drawn()) };
  return seenBy[form];
}

function see(form, grey) {
  try {
    return { image: FORMS[form](grey), error: null };
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    return { image: null, error: error.message };
  }
}

const drawn = () => state.picture || picture(new Float32Array(view.pad.ink), PAD, PAD);

/** One net's view of the drawing: the changed image, the trace, probabilities, or why there are none. */
function ask(net) {
  const { image, error } = seen(net.form);
  if (!image) return { image: null, why: t(error === BLANK ? "drawSomething" : error) };
  const changed = change(image, SIDE, state.settings);
  const trace = forward(net, prepare(changed, SIDE, net.transform));
  const probabilities = softmax(logits(trace));
  return { image: changed, trace, probabilities, why: probabilities ? "" : t("notFinite") };
}

// Drawing anew, at most once a frame

let isDue = false;

function schedule() {
  if (!isDue) requestAnimationFrame(update);
  isDue = true;
}

function update() {
  isDue = false;
  const found = state.chosen.map((i) => ask(nets[i]));
  const best = found.map(({ image, probabilities, why }, k) => view.cards[k].answer.show(image, probabilities || null, why));
  found.forEach((one, k) => {
    const net = nets[state.chosen[k]];
    const blank = one.trace || forward(net, prepare(new Uint8Array(SIDE ** 2), SIDE, net.transform));
    view.cards[k].inside.update(blank);
    view.cards[k].why.update(one.trace, one.image, (image) => prepare(image, SIDE, net.transform), one.probabilities || null);
  });
  view.verdict.textContent = compared(best);
  view.hint.hidden = !(state.isExample || view.pad.isEmpty) || (!state.isExample && Boolean(state.picture));
  view.hint.textContent = t(state.isExample ? "drawOver" : "drawHere");
  view.message.textContent = state.message;
  view.message.hidden = !state.message;
  if (!performance.getEntriesByName("answered").length) performance.mark("answered");
  lenet.updates++;
}

/** Whether two nets, or a net and a set of test images, have the same classes. */
const isOfSameClasses = (a, b) => a.names.en.join("\n") === b.names.en.join("\n");

/** Whether two nets agree, in a sentence. */
function compared(best) {
  view.verdict.classList.remove("differ");
  if (state.chosen.length < 2 || best.includes(-1)) return "";
  const [a, b] = state.chosen.map((i) => nets[i]);
  if (!isOfSameClasses(a, b)) return t("otherClasses");
  const names = { a: a.classes[best[0]], b: b.classes[best[1]] };
  view.verdict.classList.toggle("differ", best[0] !== best[1]);
  return t(best[0] === best[1] ? "agree" : "differ", names);
}

let saying = null;

/** Tell a screen reader the answer, once the hand rests. */
function say() {
  clearTimeout(saying);
  saying = setTimeout(() => {
    view.said.textContent = state.chosen
      .map((i) => [nets[i], ask(nets[i])])
      .map(([net, { probabilities, why }]) => (probabilities ? spoken(net, probabilities) : why))
      .join(". ");
  }, 400);
}

function spoken(net, probabilities) {
  const [first, second] = probabilities.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]);
  const text = ([p, i]) => `${net.classes[i]} ${percent(p)}`;
  return t("spoken", { net: net.title, first: text(first), second: second ? text(second) : "" });
}

/** A new drawing or picture. */
function changed(isOver) {
  state.version++;
  state.message = "";
  schedule();
  if (isOver) say();
}

// Pictures

function beginStroke() {
  if (state.isExample) view.pad.ink = new Uint8Array(PAD * PAD);
  leavePicture();
}

/** From now on the ink on the pad counts, and no picture or example in its place. */
function leavePicture() {
  Object.assign(state, { isExample: false, picture: null });
}

/** Put a picture in place of the drawing. */
function usePicture(grey, isExample = false) {
  if (!isExample) view.pad.remember();
  view.pad.ink = onPad(grey);
  view.pad.paint();
  Object.assign(state, { picture: grey, isExample });
  changed(true);
}

/** A picture as the pad shows it: as large as it fits, light ink on dark paper. */
function onPad({ values, height, width }) {
  const isLight = median(Float32Array.from(sidesOf({ values, height, width }).flatMap((side) => Array.from(side)))) > 127;
  const scale = PAD / Math.max(height, width);
  const [top, left] = [(PAD - height * scale) / 2, (PAD - width * scale) / 2];
  return Uint8Array.from({ length: PAD * PAD }, (_, i) => {
    const [row, column] = [Math.floor((Math.floor(i / PAD) - top) / scale), Math.floor(((i % PAD) - left) / scale)];
    if (row < 0 || column < 0 || row >= height || column >= width) return 0;
    const value = values[row * width + column];
    return isLight ? 255 - value : value;
  });
}

/** The first of the given files; a sentence on the page if it cannot be used, and the drawing stays. */
async function takeFiles(files) {
  if (!files.length) return;
  try {
    const grey = await readPicture(files[0]);
    for (const i of state.chosen) {
      const { error } = see(nets[i].form, grey);
      if (error) throw new PictureError(error === BLANK ? "blankPicture" : error);
    }
    usePicture(grey);
    state.message = files.length > 1 ? t("firstOf", { n: files.length, name: files[0].name }) : "";
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    state.message = `${files[0].name}: ${t(error.message)}`;
  }
  schedule();
}

function savePicture() {
  if (view.pad.isEmpty) {
    state.message = t("drawSomething");
    schedule();
    return;
  }
  download(png(view.pad.ink.map((x) => 255 - x), PAD, PAD), "drawing.png", "image/png");
}

// The parts of the page

function build() {
  for (const net of nets) {
    net.classes = net.names[language()];
    net.title = [knows(`net.${net.net}`) ? t(`net.${net.net}`) : net.net, ...net.label].join(" · ");
  }
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  buildPad();
  view.hint = byId("hint");
  view.said = byId("said");
  view.message = byId("message");
  view.verdict = byId("verdict");
  buildSamples();
  buildSliders();
  if (!view.collection) {
    view.collection = new Collection(() => (view.pad.isEmpty ? null : seen(nets[state.chosen[0]].form).image), nets[state.chosen[0]]);
    byId("collection").append(view.collection.element);
  }
  buildCards();
}

function buildPad() {
  const before = view.pad;
  view.pad = new Pad({ onchange: changed, onbegin: beginStroke, onreplace: leavePicture, label: t("padLabel") });
  if (before) Object.assign(view.pad, { ink: before.ink, past: before.past, pen: before.pen });
  view.pad.paint();
  byId("pad").replaceChildren(view.pad.element);
  const pen = make("input", { type: "range", min: 6, max: 60, value: view.pad.pen, ariaLabel: t("pen"), oninput: () => (view.pad.pen = Number(pen.value)) });
  const pick = (name, settings) => {
    const input = make("input", { type: "file", accept: "image/*", class: "hiddenfile", ariaLabel: t(name), onchange: () => takeFiles([...input.files]).then(() => (input.value = "")), ...settings });
    return make("label", { class: `file ${name}` }, t(name), input);
  };
  byId("tools").replaceChildren(
    button(t("clear"), () => view.pad.clear(), { id: "clear", class: "main" }),
    button(t("undo"), () => view.pad.undo(), { id: "undo" }),
    pick("open", {}),
    pick("photo", { capture: "environment" }),
    button(t("save"), savePicture, { id: "save" }),
    make("label", { class: "pen" }, t("pen"), pen),
  );
}

function buildSamples() {
  const strips = samples.map((set) => {
    const buttons = set.images.map((image, i) => {
      const maps = new Maps([1, SIDE, SIDE]);
      maps.draw(image, { least: 0, most: 255, signed: false, ink: true });
      const name = set.names[language()][set.labels[i]];
      return make("button", { type: "button", class: "thumb", title: name, ariaLabel: t("sampleLabel", { name }), onclick: () => useSample(set, image) }, maps.element);
    });
    return make("div", {}, make("h4", {}, set.title), make("div", { class: "thumbs" }, ...buttons));
  });
  byId("samples").replaceChildren(...strips);
}

/** Show a test image; if no chosen net knows its classes, change to one that does. */
function useSample(set, image) {
  const other = nets.findIndex((net) => isOfSameClasses(net, set));
  if (other >= 0 && !state.chosen.some((i) => isOfSameClasses(nets[i], set))) choose(0, other);
  usePicture(picture(Float32Array.from(image), SIDE, SIDE));
}

const SLIDERS = { turn: [-180, 180, 5], right: [-8, 8, 0.5], down: [-8, 8, 0.5], scribble: [0, 12, 1], invert: [0, 100, 5] };

function buildSliders() {
  const rows = Object.entries(SLIDERS).map(([key, [min, max, step]]) => {
    const value = make("output");
    const showValue = () => (value.textContent = t(`${key}.value`, { n: state.settings[key] }).replace("-", "−"));
    const slider = make("input", { type: "range", id: `slider-${key}`, min, max, step, value: state.settings[key] });
    slider.addEventListener("input", () => {
      state.settings[key] = Number(slider.value);
      showValue();
      reset.disabled = !isChanged(state.settings);
      schedule();
      say();
    });
    showValue();
    return make("label", {}, make("span", {}, t(key)), slider, value);
  });
  const reset = button(t("reset"), resetSliders, { disabled: !isChanged(state.settings), class: "quiet" });
  byId("sliders").replaceChildren(...rows, reset);
}

function resetSliders() {
  state.settings = { ...UNCHANGED };
  buildSliders();
  schedule();
}

/** One card of answers and one view of the inside for each chosen net; a net that stays keeps its chosen cell. */
function buildCards() {
  const before = view.cards || [];
  view.cards = state.chosen.map((i, place) => {
    const net = nets[i];
    const answer = new Answer({ classes: net.classes, side: SIDE });
    const inside = new Inside(net, before.find((card) => card.inside.net === net)?.inside.unit);
    const why = new Why(net, (unit) => {
      inside.choose(unit);
      inside.element.scrollIntoView({ block: "nearest" });
    });
    return { answer, inside, why, element: make("article", { class: "card" }, selector(place), answer.element) };
  });
  byId("answers").replaceChildren(...view.cards.map(({ element }) => element));
  byId("answers").classList.toggle("two", state.chosen.length === 2);
  byId("whys").replaceChildren(...view.cards.map(({ why }) => why.element));
  byId("insides").replaceChildren(...view.cards.map(({ inside }, k) => make("div", {}, state.chosen.length > 1 ? make("h3", {}, nets[state.chosen[k]].title) : null, inside.element)));
  view.collection.use(nets[state.chosen[0]]);
  schedule();
}

/** The choice of a net, and of a second one beside it. */
function selector(place) {
  const options = nets.map((net, i) => make("option", { value: i }, net.title));
  const act = (changed, i, selector) => () => {
    choose(changed, i());
    document.querySelector(selector).focus({ preventScroll: true }); // what had the focus has been made anew
  };
  const own = `.card:nth-child(${place + 1}) select`;
  const select = make("select", { ariaLabel: t(place ? "secondNet" : "net"), onchange: act(place, () => Number(select.value), own) }, ...options);
  select.value = state.chosen[place];
  const net = nets[state.chosen[place]];
  const compare = button(t("compare"), act(1, () => (state.chosen[0] + 1) % nets.length, ".card:nth-child(2) select"), { class: "quiet", id: "compare" });
  const end = button("×", act(1, () => null, "#compare"), { class: "quiet", ariaLabel: t("endCompare"), title: t("endCompare") });
  const isAlone = state.chosen.length === 1;
  const about = make("p", { class: "about" }, t("about", { recipe: net.recipe, data: net.data, n: net.parameters.toLocaleString("en") }));
  return make("header", {}, make("div", { class: "pick" }, select, place ? end : isAlone && nets.length > 1 ? compare : null), about);
}

function choose(place, i) {
  state.chosen[place] = i;
  state.chosen = state.chosen.filter((n) => n !== null);
  buildCards();
  say();
}

function listen() {
  const drop = byId("stage");
  const stop = (event) => event.preventDefault();
  addEventListener("dragover", stop);
  addEventListener("drop", (event) => {
    stop(event);
    drop.classList.remove("over");
    takeFiles([...event.dataTransfer.files]);
  });
  drop.addEventListener("dragenter", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", (event) => drop.contains(event.relatedTarget) || drop.classList.remove("over"));
  addEventListener("paste", (event) => takeFiles([...event.clipboardData.files]));
  byId("language").addEventListener("click", () => {
    useTexts(data.texts, t("otherLanguage"));
    build();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
}

/** For the browser's console, and the tests: `lenet.logits(0, image)` of 784 numbers from 0 to 255. */
const lenet = {
  ...{ nets, updates: 0, forward, explain, activate, regions, shares, occlude, indexOf },
  input: (net, image) => prepare(Uint8Array.from(image), SIDE, net.transform),
  trace: (net, image) => forward(net, lenet.input(net, image)),
  logits: (i, image) => Array.from(logits(lenet.trace(nets[i], image))),
  see: (form, values, height, width) => see(form, picture(Float32Array.from(values), height, width)),
  answers: () => state.chosen.map((i) => ask(nets[i])),
  work() {
    const start = performance.now();
    state.version++;
    update();
    return performance.now() - start;
  },
};
window.lenet = lenet;

const wanted = new URLSearchParams(location.hash.slice(1)).get("language");
useTexts(data.texts, wanted in data.texts ? wanted : null);
build();
listen();
const example = (samples.find(({ form }) => form === nets[0].form) || samples[0]).images[8];
usePicture(picture(Float32Array.from(example), SIDE, SIDE), true);
update();
