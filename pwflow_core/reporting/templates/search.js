const box = document.getElementById("search");
const told = document.getElementById("found");
const cards = [...document.querySelectorAll("#cases article, #events article, #machines article")];
const rows = [...document.querySelectorAll("#cases tbody tr, #events tbody tr")].filter((row) => !row.closest("article"));
const items = [...cards, ...rows].map((element) => [element, element.textContent.toLowerCase()]);

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const [element, text] of items) {
    element.hidden = !words.every((word) => text.includes(word));
    if (!element.hidden) found += 1;
  }
  for (const folded of document.querySelectorAll("#cases > details, #events > details")) {
    folded.open = words.length > 0 && folded.querySelector("tbody tr:not([hidden])") !== null;
  }
  told.textContent = words.length > 0 ? `${found} / ${items.length}` : "";
}

box.closest("form").hidden = false;
box.addEventListener("input", search);
box.form.addEventListener("submit", (event) => event.preventDefault());
search();
