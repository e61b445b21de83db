// The list of cases: only the rows in sight are in the page, so thousands scroll as smoothly as ten.
export const ROW_PX = 44;
const SPARE = 6;

export const classOf = (verdict) => verdict.replace(" ", "");

export class List {
  constructor(box, rows, onOpen) {
    Object.assign(this, { box, rows, onOpen, cases: [], current: null });
    box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    new ResizeObserver(() => this.draw()).observe(box);
    rows.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) onOpen(this.cases[Number(row.dataset.index)]);
    });
  }

  show(cases, current) {
    this.cases = cases;
    this.current = current;
    this.rows.style.height = `${cases.length * ROW_PX}px`;
    this.draw();
  }

  // Brings a newly chosen case into sight; who has scrolled away from it since is left where they are.
  select(current) {
    const changed = current !== this.current;
    this.current = current;
    const at = this.cases.indexOf(current) * ROW_PX;
    const { scrollTop, clientHeight } = this.box;
    if (changed && at >= 0 && (at < scrollTop || at + ROW_PX > scrollTop + clientHeight)) {
      this.box.scrollTop = Math.max(0, at - clientHeight / 2);
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_PX) - SPARE);
    const last = Math.min(this.cases.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_PX) + SPARE);
    const rows = [];
    for (let index = first; index < last; index++) rows.push(this.row(this.cases[index], index));
    this.rows.replaceChildren(...rows);
  }

  row(one, index) {
    const row = document.createElement("div");
    row.className = one === this.current ? "row current" : "row";
    row.dataset.index = index;
    row.style.top = `${index * ROW_PX}px`;
    const name = document.createElement("b");
    name.textContent = name.title = one.scan;
    const method = document.createElement("span");
    method.textContent = one.method;
    const marks = document.createElement("span");
    marks.className = "marks";
    if (one.automatic) marks.append(badge(one.automatic, "auto", `automatic: ${one.automatic}`));
    if (one.verdict) marks.append(" ", badge(one.verdict, "", `my vote: ${one.verdict}`));
    else if (one.stale) marks.append(" ", badge("made anew", "", "voted on an earlier image of this case"));
    row.append(name, method, marks);
    return row;
  }
}

export function badge(text, kind = "", title = "") {
  const element = document.createElement("span");
  element.className = `badge ${kind} ${classOf(text)}`;
  element.textContent = text;
  element.title = title;
  return element;
}
