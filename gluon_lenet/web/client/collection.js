// Drawings and their classes -> a set of the reader's own, saved as a folder of pictures with a subfolder a class.
import { button, download, make, rich } from "./dom.js";
import { Maps } from "./maps.js";
import { png, zip } from "./save.js";
import { t } from "./texts.js";

/** The panel; `element` stands in the page. `current` gives the drawing now on the pad, uint8 28x28, or null. */
export class Collection {
  constructor(current, net) {
    Object.assign(this, { current, net, drawings: [] });
    this.element = make("section", { class: "panel collection" });
    addEventListener("beforeunload", (event) => this.drawings.length && !this.saved && event.preventDefault());
    this.render();
  }

  /** Use another net's classes; drawings keep the names they have. */
  use(net) {
    this.net = net;
    this.render();
  }

  render() {
    const options = this.net.names.en.map((name, i) => make("option", { value: name }, this.net.classes[i]));
    const chosen = this.select ? this.select.value : null;
    this.select = make("select", { id: "set-class" }, ...options);
    this.select.value = this.net.names.en.includes(chosen) ? chosen : this.net.names.en[0];
    this.count = make("span", { class: "hint", ariaLive: "polite" });
    this.list = make("div", { class: "thumbs" });
    this.saveButton = button(t("saveSet"), () => this.save(), { id: "save-set" });
    const tools = make("div", { class: "tools" }, make("label", {}, `${t("classOf")} `, this.select), button(t("addToSet"), () => this.add(), { id: "add-to-set" }), this.saveButton, this.count);
    this.element.replaceChildren(make("h3", {}, t("setTitle")), make("p", { class: "note" }, ...rich(t("setNote"))), tools, this.list);
    this.showAll();
  }

  add() {
    const image = this.current();
    if (!image) {
      this.count.textContent = t("drawSomething");
      return;
    }
    this.drawings.push({ name: this.select.value, image });
    this.saved = false;
    this.showAll();
  }

  remove(drawing) {
    const place = this.drawings.indexOf(drawing);
    this.drawings = this.drawings.filter((one) => one !== drawing);
    this.showAll();
    (this.list.children[Math.min(place, this.drawings.length - 1)] || this.select).focus();
  }

  showAll() {
    this.count.textContent = this.drawings.length ? t("inSet", { n: this.drawings.length }) : "";
    this.saveButton.disabled = !this.drawings.length;
    this.list.replaceChildren(
      ...this.drawings.map((drawing) => {
        const maps = new Maps([1, 28, 28]);
        maps.draw(drawing.image, { least: 0, most: 255, signed: false, ink: true });
        return make("button", { type: "button", class: "thumb", title: t("remove"), ariaLabel: t("removeOne", { name: drawing.name }), onclick: () => this.remove(drawing) }, maps.element, make("span", {}, drawing.name));
      }),
    );
  }

  /** drawings/7/3.png, ...: as `train --dataset drawings` reads them. */
  save() {
    const files = this.drawings.map(({ name, image }, i) => ({ name: `drawings/${folderName(name)}/${i + 1}.png`, bytes: png(image, 28, 28) }));
    download(zip(files), "drawings.zip", "application/zip");
    this.saved = true;
  }
}

/** A class as the name of a folder on any system; it changes as little as it must, since `evaluate` knows it by its name. */
const folderName = (name) => name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").replace(/^\.|[. ]$/g, "_");
