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
  // The name has all that the button shows on a desk, the keys too; on a phone it shows an icon alone.
  for (const button of document.querySelectorAll(".search-button-field")) {
    button.setAttribute("aria-label", button.textContent.trim().replace(/\s+/g, " "));
  }
});
