// Of the map: the image under the pointer, and the point of a click in the map's own units.
const view = () => element.querySelector(".explorer-map");

element.addEventListener("mousemove", (event) => {
  const map = view(), tip = map && map.querySelector(".tip");
  if (!tip) return;
  const index = event.target.dataset && event.target.dataset.i;
  tip.style.display = index === undefined ? "none" : "block";
  if (index === undefined) return;
  const columns = Number(map.dataset.columns), rows = Number(map.dataset.rows), side = 84;
  const image = tip.querySelector("i"), box = map.getBoundingClientRect();
  image.style.backgroundImage = getComputedStyle(map).getPropertyValue("--thumbnails");
  image.style.backgroundSize = `${columns * side}px ${rows * side}px`;
  image.style.backgroundPosition = `${-(index % columns) * side}px ${-Math.floor(index / columns) * side}px`;
  tip.querySelector("span").textContent = event.target.dataset.name;
  tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 110)}px`;
  tip.style.top = `${event.clientY - box.top + 14}px`;
});

element.addEventListener("click", (event) => {
  const drawing = event.target.closest("svg");
  if (!drawing) return;
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
  const mark = drawing.querySelector(".mark");
  mark.setAttribute("transform", `translate(${at.x} ${at.y})`);
  mark.setAttribute("visibility", "visible");
  const [left, top, perX, perY] = drawing.dataset.frame.split(" ").map(Number);
  trigger("click", { x: left + at.x * perX, y: top - at.y * perY });
});
