// Stands in for zarrita: the page shows NIfTI and MGH files only, and zarr's decoders are two thirds of NiiVue.
export {};
