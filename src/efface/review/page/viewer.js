// Three linked planes before and after, each in a canvas of its own: switching between them moves no data.
import { DRAG_MODE, NVImage, Niivue, SLICE_TYPE } from "./vendor/niivue.min.js";

const EDIT = { I: [0, 1], R: [0, 213], G: [0, 94], B: [0, 0], A: [0, 255], labels: ["", "changed"] };
const BRAIN = { I: [0, 1], R: [0, 51], G: [0, 181], B: [0, 214], A: [0, 255], labels: ["", "brain"] };
const OPACITY = { edit: 0.45, labels: 0.5, brain: 0.35 };
const TILES = [
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0, 0, 0.5, 0.5] },
  { sliceType: SLICE_TYPE.CORONAL, position: [0.5, 0, 0.5, 0.5] },
  { sliceType: SLICE_TYPE.AXIAL, position: [0, 0.5, 0.5, 0.5] },
];
const HEAD = { sliceType: SLICE_TYPE.RENDER, position: [0.5, 0.5, 0.5, 0.5] };
const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [0.42, 0.69, 0.95, 0.55], crosshairWidth: 1.2, crosshairWidthUnit: "mm", crosshairGap: 6,
  show3Dcrosshair: false,
  dragAndDropEnabled: false, loadingText: "", isOrientCube: false, fontColor: [0.6, 0.64, 0.7, 1], fontMinPx: 12,
  logLevel: "error", sagittalNoseLeft: false, isResizeCanvas: true,
};
export const WHEN = ["before", "after"];

// Draws only when it is seen and not being filled: drawing costs most of the time, above all without a graphics card.
class Side extends Niivue {
  resting = false;

  drawScene() {
    if (!this.resting) super.drawScene();
  }
}

export class Viewer {
  // canvases: {before, after}; onPlace is told where the crosshair is; onWindow when the window was changed by mouse.
  constructor(canvases, labelColours, { onPlace, onWindow }) {
    Object.assign(this, { canvases, labelColours, onPlace, onWindow });
    this.when = "after";
    this.plane = 2;
    this.turning = false;
    this.on = { edit: true, labels: false, brain: false };
    this.images = {};
    this.sides = {};
    this.buffers = new Map();
  }

  async start() {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("no WebGL 2");
    for (const when of WHEN) {
      const side = new Side(OPTIONS);
      await side.attachToCanvas(this.canvases[when], false); // slices need no anti-aliasing
      side.resting = when !== this.when;
      side.setCustomLayout(TILES);
      side.setMouseEventConfig({
        leftButton: { primary: DRAG_MODE.crosshair, withShift: DRAG_MODE.pan }, rightButton: DRAG_MODE.windowing,
        centerButton: DRAG_MODE.pan,
      });
      side.onLocationChange = ({ mm, values }) => when === this.when && this.onPlace(mm, this.words(when, values));
      side.onIntensityChange = () => when === this.when && this.onWindow();
      this.canvases[when].addEventListener("mousemove", (event) => this.hover(event));
      this.canvases[when].addEventListener("pointerup", () => this.onWindow());
      this.sides[when] = side;
    }
  }

  // What is at the crosshair: the intensity, and in words what overlays say.
  words(when, values) {
    const { scan, labels, edit, brain } = this.images[when];
    const at = (image) => values[this.sides[when].volumes.indexOf(image)]?.value;
    const label = this.on.labels && this.labelColours.labels[this.labelColours.I.indexOf(Math.round(at(labels)))];
    const found = [`value ${Number((at(scan) ?? 0).toPrecision(4))}`];
    if (this.on.edit && at(edit) > 0) found.push("changed");
    if (this.on.brain && at(brain) > 0) found.push("brain");
    if (label) found.push(label);
    return found;
  }

  get side() {
    return this.sides[this.when];
  }

  // Load the images of one case; a newer call makes this one stop. urls: kind to address.
  async load(urls) {
    const run = (this.run = {});
    this.urls = urls;
    for (const when of WHEN) {
      this.images[when] = {};
      this.sides[when].volumes = [];
      this.sides[when].drawScene();
      this.sides[when].resting = true;
    }
    try {
      for (const when of ["after", "before"]) {
        if (!urls[when]) continue;
        const image = await this.image(urls[when], "gray", 1);
        if (this.run !== run) return false;
        // Both under the window of the scan before: what was cut away must not brighten the rest.
        if (this.images.after.scan) Object.assign(this.images.after.scan, { cal_min: image.cal_min, cal_max: image.cal_max });
        this.range = { low: image.global_min, high: image.global_max };
        this.first = { low: image.cal_min, high: image.cal_max };
        this.add(when, "scan", image);
      }
      for (const kind of Object.keys(this.on)) if (this.on[kind]) await this.overlay(kind, run);
    } finally {
      if (this.run === run) this.side.resting = false;
    }
    if (this.run !== run) return false;
    this.setWindow(this.first);
    return true;
  }

  async image(url, colormap, opacity) {
    const image = await NVImage.loadFromUrl({ url: await this.bytes(url), name: url.split("/").pop(), colormap, opacity });
    return image;
  }

  // The bytes of a file, kept for the case at hand and the next one only.
  bytes(url) {
    if (!this.buffers.has(url)) {
      const got = fetch(url).then(async (answer) => {
        if (!answer.ok) throw new Error(`${url.split("/").pop()} could not be loaded`);
        return answer.arrayBuffer();
      });
      got.catch(() => this.buffers.delete(url));
      this.buffers.set(url, got);
    }
    return this.buffers.get(url);
  }

  keep(urls) {
    for (const url of this.buffers.keys()) if (!urls.includes(url)) this.buffers.delete(url);
  }

  add(when, kind, image) {
    this.images[when][kind] = image;
    this.sides[when].addVolume(image);
  }

  async overlay(kind, run = this.run) {
    for (const when of WHEN) {
      const url = this.urls[kind === "labels" ? `labels-${when}` : kind];
      if (!url || !this.images[when].scan || this.images[when][kind]) continue;
      const image = await this.image(url, "gray", this.on[kind] ? OPACITY[kind] : 0);
      if (this.run !== run || this.images[when][kind]) return;
      image.setColormapLabel(kind === "labels" ? this.labelColours : kind === "edit" ? EDIT : BRAIN);
      this.add(when, kind, image);
    }
  }

  async toggle(kind) {
    this.on[kind] = !this.on[kind];
    if (this.on[kind]) await this.overlay(kind);
    for (const when of WHEN) {
      const image = this.images[when]?.[kind];
      if (image) this.sides[when].setOpacity(this.sides[when].volumes.indexOf(image), this.on[kind] ? OPACITY[kind] : 0);
    }
    return this.on[kind];
  }

  has(when) {
    return Boolean(this.images[when]?.scan);
  }

  // Show the other one at the same place, under the same window.
  show(when) {
    const from = this.side;
    this.when = when;
    const to = this.side;
    from.resting = from !== to;
    to.resting = false;
    if (from !== to && from.volumes.length && to.volumes.length) {
      const [x, y, z] = from.frac2mm(from.scene.crosshairPos);
      to.scene.crosshairPos = to.mm2frac([x, y, z]);
      to.scene.pan2Dxyzmm = [...from.scene.pan2Dxyzmm];
      to.scene.renderAzimuth = from.scene.renderAzimuth;
      to.scene.renderElevation = from.scene.renderElevation;
      to.scene.volScaleMultiplier = from.scene.volScaleMultiplier;
      const { cal_min: low, cal_max: high } = from.volumes[0];
      if (to.volumes[0].cal_min !== low || to.volumes[0].cal_max !== high) {
        Object.assign(to.volumes[0], { cal_min: low, cal_max: high });
        to.refreshLayers(to.volumes[0], 0);
      }
      to.drawScene();
    }
    for (const one of WHEN) this.canvases[one].classList.toggle("off", one !== when);
  }

  setWindow({ low, high }) {
    for (const when of WHEN) {
      const image = this.images[when]?.scan;
      if (!image) continue;
      Object.assign(image, { cal_min: low, cal_max: Math.max(high, low + 1e-6) });
      this.sides[when].refreshLayers(image, 0);
      this.sides[when].drawScene();
    }
  }

  getWindow() {
    const image = this.images[this.when]?.scan;
    return image ? { low: image.cal_min, high: image.cal_max } : null;
  }

  turn() {
    this.turning = !this.turning;
    for (const when of WHEN) {
      this.sides[when].setCustomLayout(this.turning ? [...TILES, HEAD] : TILES);
      this.sides[when].drawScene();
    }
    return this.turning;
  }

  goTo(mm) {
    const side = this.side;
    if (!side.volumes.length) return;
    side.scene.crosshairPos = side.mm2frac(mm);
    side.drawScene();
    side.createOnLocationChange();
  }

  scroll(slices) {
    if (!this.side.volumes.length) return;
    const step = [0, 0, 0];
    step[this.plane] = slices;
    this.side.moveCrosshairInVox(...step);
  }

  // Which plane is under the mouse; its normal is the axis that arrow keys scroll along.
  hover(event) {
    const box = event.target.getBoundingClientRect();
    const right = event.clientX - box.left > box.width / 2;
    const low = event.clientY - box.top > box.height / 2;
    if (!(right && low)) this.plane = low ? 2 : right ? 1 : 0;
  }
}
