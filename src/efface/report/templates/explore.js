"use strict";
(function () {
  var box = document.getElementById("explore");
  if (!box) { return; }
  var data = JSON.parse(document.getElementById("explore-data").textContent);
  var NS = "http://www.w3.org/2000/svg";
  var plot = box.querySelector(".plot"), say = box.querySelector(".say");
  var measureBox = box.querySelector("[name=measure]"), regionBox = box.querySelector("[name=region]");
  var scanBox = box.querySelector("[name=scan]"), groupsBox = box.querySelector(".groups");
  var chosen = -1;

  function option(select, text, value) {
    var o = document.createElement("option");
    o.textContent = text; o.value = value; select.appendChild(o);
  }
  function fillRegions() {
    var before = regionBox.selectedOptions.length ? regionBox.selectedOptions[0].textContent : "";
    regionBox.textContent = "";
    data.measures[measureBox.value].regions.forEach(function (r, i) {
      option(regionBox, r.name, i);
      if (r.name === before) { regionBox.value = i; }
    });
  }
  data.measures.forEach(function (m, i) { option(measureBox, m.title, i); });
  if (data.measures.length < 2) { measureBox.parentNode.hidden = true; }
  fillRegions();
  data.groups.forEach(function (g, i) {
    var label = document.createElement("label"), check = document.createElement("input"), dot = document.createElement("span");
    check.type = "checkbox"; check.checked = true; check.dataset.group = i;
    dot.className = "swatch"; dot.style.background = g.colour;
    label.append(check, dot, g.title); groupsBox.appendChild(label);
  });
  var names = box.querySelector("datalist");
  data.scans.forEach(function (s) { option(names, "", s.name); });

  function el(name, attributes, parent) {
    var e = document.createElementNS(NS, name);
    Object.keys(attributes).forEach(function (k) { e.setAttribute(k, attributes[k]); });
    if (parent) { parent.appendChild(e); }
    return e;
  }
  function quantile(sorted, q) {
    var at = (sorted.length - 1) * q, low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] === undefined ? sorted[low] : sorted[low + 1]) - sorted[low]);
  }
  function ticks(low, high) {
    var raw = (high - low) / 5, power = Math.pow(10, Math.floor(Math.log10(raw)));
    var step = [1, 2, 5, 10].map(function (s) { return s * power; }).find(function (s) { return s >= raw; });
    var found = [];
    for (var t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-6; t += step) { found.push(t); }
    return { at: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
  function current() {
    var measure = data.measures[measureBox.value], region = measure.regions[regionBox.value || 0];
    var shown = [];
    groupsBox.querySelectorAll("input").forEach(function (c) {
      var i = Number(c.dataset.group);
      if (c.checked && region.values[i].length) { shown.push(i); }
    });
    return { measure: measure, region: region, shown: shown };
  }
  function draw() {
    var now = current(), wide = Math.max(300, plot.clientWidth), row = 46, left = Math.min(130, wide * 0.3), right = 62, top = 6;
    var tall = top + row * now.shown.length + 40;
    plot.textContent = "";
    var svg = el("svg", { viewBox: "0 0 " + wide + " " + tall, width: wide, height: tall, role: "img",
      "aria-label": now.measure.title + ", " + now.region.name + ": one row a method, one point a scan" }, plot);
    var all = [];
    now.shown.forEach(function (g) { now.region.values[g].forEach(function (p) { all.push(p[1]); }); });
    if (!all.length) { say.textContent = "Nothing to draw: choose a method."; return; }
    var low = Math.min.apply(null, all), high = Math.max.apply(null, all);
    if (high - low < 1e-6) { low -= 0.001; high += 0.001; }
    var pad = (high - low) * 0.04; low -= pad; high += pad;
    function x(v) { return left + (v - low) / (high - low) * (wide - left - right); }
    var marks = ticks(low, high), bottom = top + row * now.shown.length, last = -Infinity;
    marks.at.forEach(function (t) {
      el("line", { x1: x(t), x2: x(t), y1: top, y2: bottom, stroke: "#e0e0e0" }, svg);
      if (x(t) - last < 52) { return; }
      last = x(t);
      el("text", { x: x(t), y: bottom + 16, "text-anchor": "middle", class: "tick" }, svg).textContent = t.toFixed(marks.digits);
    });
    el("text", { x: 0, y: bottom + 34, class: "tick" }, svg).textContent = now.measure.title + " · " + now.region.name;
    now.shown.forEach(function (g, r) {
      var group = data.groups[g], y = top + row * (r + 0.5), points = now.region.values[g];
      var sorted = points.map(function (p) { return p[1]; }).sort(function (a, b) { return a - b; });
      el("text", { x: 0, y: y + 5, class: "name" }, svg).textContent = group.title;
      var q1 = quantile(sorted, 0.25), q2 = quantile(sorted, 0.5), q3 = quantile(sorted, 0.75);
      el("rect", { x: x(q1), width: Math.max(1, x(q3) - x(q1)), y: y - 14, height: 28, fill: group.colour, opacity: 0.25 }, svg);
      points.forEach(function (p) {
        var spread = ((p[0] * 0.618034) % 1 - 0.5) * 24;
        var dot = el("circle", { cx: x(p[1]), cy: y + spread, r: 3.5, fill: group.colour, class: "dot", "data-scan": p[0], "data-group": g,
          "fill-opacity": 0.8 }, svg);
        dot.__value = p[1];
      });
      el("line", { x1: x(q2), x2: x(q2), y1: y - 16, y2: y + 16, stroke: "#000", "stroke-width": 2 }, svg);
      el("text", { x: wide, y: y + 5, "text-anchor": "end", class: "tick" }, svg).textContent = q2.toFixed(now.measure.digits);
    });
    mark();
  }
  function mark() {
    var now = current(), wanted = scanBox.value.trim().toLowerCase();
    plot.querySelectorAll(".dot").forEach(function (dot) {
      var scan = Number(dot.dataset.scan), name = data.scans[scan].name.toLowerCase();
      dot.classList.toggle("dim", Boolean(wanted) && name.indexOf(wanted) < 0);
      var on = scan === chosen;
      dot.classList.toggle("on", on);
      dot.setAttribute("r", on ? 6 : 3.5);
      if (on) { dot.parentNode.insertBefore(dot, null); }
    });
    if (chosen < 0) {
      say.textContent = "Point at a scan, or use the arrow keys in the figure. Black: median, on the right in figures; band: quartiles.";
      return;
    }
    say.textContent = "";
    var link = document.createElement("a");
    link.href = data.scans[chosen].link; link.textContent = data.scans[chosen].name;
    var values = now.shown.map(function (g) {
      var mine = now.region.values[g].find(function (p) { return p[0] === chosen; });
      return mine ? data.groups[g].title + " " + mine[1].toFixed(now.measure.digits) : "";
    }).filter(Boolean);
    say.append(link, ": " + (values.join(", ") || "no value here"));
  }
  function ranked() {
    var now = current(), worst = {};
    now.shown.forEach(function (g) {
      now.region.values[g].forEach(function (p) { worst[p[0]] = Math.min(p[1], worst[p[0]] === undefined ? Infinity : worst[p[0]]); });
    });
    return Object.keys(worst).map(Number).filter(function (s) {
      return data.scans[s].name.toLowerCase().indexOf(scanBox.value.trim().toLowerCase()) >= 0;
    }).sort(function (a, b) { return worst[a] - worst[b]; });
  }
  plot.addEventListener("mouseover", function (e) {
    if (e.target.classList && e.target.classList.contains("dot")) { chosen = Number(e.target.dataset.scan); mark(); }
  });
  plot.addEventListener("click", function (e) {
    if (!(e.target.classList && e.target.classList.contains("dot"))) { return; }
    chosen = Number(e.target.dataset.scan); mark();
  });
  plot.addEventListener("keydown", function (e) {
    var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (e.key === "Enter" && chosen >= 0) { location.href = data.scans[chosen].link; }
    if (!step) { return; }
    e.preventDefault();
    var order = ranked();
    if (!order.length) { return; }
    var at = order.indexOf(chosen);
    chosen = order[at < 0 ? 0 : (at + step + order.length) % order.length];
    mark();
  });
  measureBox.addEventListener("change", function () { fillRegions(); draw(); });
  regionBox.addEventListener("change", draw);
  groupsBox.addEventListener("change", draw);
  scanBox.addEventListener("input", function () {
    var order = ranked(), wanted = scanBox.value.trim();
    chosen = wanted && order.length ? order[0] : -1;
    mark();
  });
  var wide = 0;
  window.addEventListener("resize", function () {
    if (plot.clientWidth !== wide) { wide = plot.clientWidth; draw(); }
  });
  box.hidden = false;
  draw();
}());
(function () {
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button"; button.append.apply(button, Array.from(head.childNodes)); head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th[aria-sort]").forEach(function (h) { h.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.from(body.rows).map(function (row) {
          var text = row.cells[column].textContent.trim(), number = parseFloat(text);
          return { row: row, text: text, number: number };
        }).sort(function (a, b) {
          if (isNaN(a.number) !== isNaN(b.number)) { return isNaN(a.number) ? 1 : -1; }
          var order = isNaN(a.number) ? a.text.localeCompare(b.text, "en", { numeric: true }) : a.number - b.number;
          return up ? order : -order;
        }).forEach(function (item) { body.appendChild(item.row); });
      });
    });
    var filter = document.querySelector("input[data-filters='" + table.id + "']");
    if (!filter) { return; }
    filter.parentNode.hidden = false;
    filter.addEventListener("input", function () {
      var wanted = filter.value.trim().toLowerCase();
      Array.from(body.rows).forEach(function (row) {
        row.hidden = wanted !== "" && row.textContent.toLowerCase().indexOf(wanted) < 0;
      });
    });
  });
  document.querySelectorAll("button[data-copies]").forEach(function (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      var text = document.getElementById(button.dataset.copies).textContent;
      navigator.clipboard.writeText(text).then(function () { button.textContent = "Copied"; });
    });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
}());
