// Show the values of all lines at the x nearest to the pointer.
const tip = document.getElementById("tip");
for (const svg of document.querySelectorAll("svg.chart")) {
  const lines = JSON.parse(svg.dataset.lines), guide = svg.querySelector(".guide");
  const lefts = lines.flatMap((line) => line.points.map((point) => point[0]));
  svg.addEventListener("pointermove", (event) => {
    const pointer = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const near = lefts.reduce((best, left) => Math.abs(left - pointer.x) < Math.abs(best - pointer.x) ? left : best, lefts[0]);
    const rows = [];
    for (const line of lines) {
      for (const [left, x, y] of line.points) {
        if (left === near) {
          if (!rows.length) rows.push(`${svg.dataset.x} ${x}`);
          rows.push(`${line.name}: ${Number(y.toPrecision(5))}`);
          break;
        }
      }
    }
    guide.setAttribute("x1", near);
    guide.setAttribute("x2", near);
    guide.setAttribute("visibility", "visible");
    tip.textContent = rows.join("\n");
    tip.style.display = "block";
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.style.display = "none";
    guide.setAttribute("visibility", "hidden");
  });
}
