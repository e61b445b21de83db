// What the review page uses of NiiVue.
export { Niivue, NVImage, SLICE_TYPE, DRAG_MODE } from "@niivue/niivue";
