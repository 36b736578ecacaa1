// Names for links and buttons that the theme and the gallery show as pictures alone.
document.addEventListener("DOMContentLoaded", () => {
  for (const card of document.querySelectorAll(".sphx-glr-thumbcontainer")) {
    const link = card.querySelector("a.reference");
    link?.setAttribute("aria-label", link.textContent.trim());
  }
  for (const summary of document.querySelectorAll("nav summary")) {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages below ${link?.textContent.trim() ?? "this one"}`);
  }
  // What the button shows, with the keys, is its name: a label that leaves them out would differ.
  for (const button of document.querySelectorAll(".search-button-field")) {
    button.removeAttribute("aria-label");
  }
});
