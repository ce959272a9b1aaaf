"use strict";
// asks for the state twice a second and for the picture when there is a new one; a page that was left asks on
const at = (id) => document.getElementById(id);
let shown = 0;

function put(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

async function look() {
  let wait = 500;
  try {
    const answer = await fetch("state.json", { cache: "no-store" });
    const state = await answer.json();
    for (const [name, text] of Object.entries(state.texts)) put(name, text);
    at("verdict").style.setProperty("--verdict", state.colour);
    document.title = state.title;
    if (state.picture !== shown) {
      shown = state.picture;
      at("picture").src = "picture.png?" + shown;
      at("picture").hidden = false;
    }
    at("gone").hidden = true;
  } catch {
    wait = 2000;
    at("gone").hidden = false;
  }
  setTimeout(look, wait);
}

look();
