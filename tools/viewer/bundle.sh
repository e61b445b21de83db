#!/usr/bin/env bash
# Make src/efface/review/page/vendor anew: NiiVue and what it needs as one minified file, and all their licences.
# Needs node and npm; only whoever changes the version of NiiVue runs this. The result is committed, and is the same
# file each time: versions and check sums are in package-lock.json.
set -euo pipefail
cd "$(dirname "$0")"
out=../../src/efface/review/page/vendor
npm ci --ignore-scripts --no-audit --no-fund
npx esbuild entry.js --bundle --minify --format=esm --target=es2022 --alias:zarrita=./no-zarr.js \
    --legal-comments=none --metafile=node_modules/meta.json --outfile="$out/niivue.min.js"
node - > "$out/LICENSES.txt" <<'JS'
const fs = require("fs");
const inputs = Object.keys(require("./node_modules/meta.json").inputs);
const names = inputs.map((f) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(f)).filter(Boolean).map((m) => m[1]);
for (const name of [...new Set(names)].sort()) {
  const folder = `node_modules/${name}`;
  const { version, license } = require(`./${folder}/package.json`);
  const file = fs.readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
  const text = fs.readFileSync(name === "@niivue/niivue" ? "niivue-license.txt" : `${folder}/${file}`, "utf8");
  console.log(`${name} ${version} (${license})\n${"=".repeat(60)}\n${text.trim()}\n\n`);
}
JS
ls -l "$out"
