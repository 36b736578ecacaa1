// Looks at each page of the built site as people do: in Chromium, on a phone and on a desk, light and
// dark. Prints what axe-core finds, what is wider than the window, what a script or a request fails
// on, requests to other hosts, and what the key Tab reaches without showing it; with findings it exits
// with 1.
//
//     npm install --no-save axe-core puppeteer-core
//     node docs/_tools/look.mjs docs/_build/html [part of a page's path]
//
// CHROMIUM names the browser, if it is not /usr/bin/chromium.
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import puppeteer from "puppeteer-core";

const [folder, part = ""] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node docs/_tools/look.mjs FOLDER [part of a page's path]");
  process.exit(2);
}
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const kinds = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };

const server = createServer((request, response) => {
  try {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const content = readFileSync(join(folder, path));
    response.setHeader("Content-Type", kinds[extname(path)] ?? "application/octet-stream");
    response.end(content);
  } catch {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const site = `http://127.0.0.1:${server.address().port}/`;
const pages = readdirSync(folder, { recursive: true })
  .filter((path) => path.endsWith(".html") && !path.startsWith("_") && path.includes(part))
  .sort();

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
});
const findings = new Map(); // what is wrong: the views where it is
let view = "";
const note = (what) => findings.set(what, [...(findings.get(what) ?? []), view]);

const TABS = 15; // elements of a page that Tab goes to, at most
async function tabThrough(tab) {
  await tab.addStyleTag({ content: "* { transition: none !important; }" });
  await tab.evaluate(() => scrollTo(0, 0));
  for (let i = 0; i < TABS; i += 1) {
    await tab.keyboard.press("Tab");
    const [name, isShown] = await tab.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return ["", true];
      // The ring may be around a pseudo-element, or a child.
      const parts = [[element], [element, "::before"], [element, "::after"], ...[...element.children].map((each) => [each])];
      const look = () =>
        parts
          .map(([each, pseudo]) => getComputedStyle(each, pseudo))
          .map(({ outlineStyle: style, outlineWidth, outlineColor, boxShadow }) =>
            [style === "none" ? "" : style + outlineWidth + outlineColor, boxShadow].join(),
          )
          .join(";");
      const focused = look();
      element.blur(); // the next Tab goes on from here
      const text = (element.ariaLabel ?? element.textContent).trim().replace(/\s+/g, " ").slice(0, 30);
      return [`${element.tagName.toLowerCase()}.${[...element.classList].join(".")} "${text}"`, focused !== look()];
    });
    if (!name) return;
    if (!isShown) note(`the focus is not to be seen: ${name}`);
  }
}

for (const [width, height] of [[390, 844], [1280, 900]]) {
  for (const mode of ["light", "dark"]) {
    const tab = await browser.newPage();
    await tab.setViewport({ width, height });
    await tab.evaluateOnNewDocument((mode) => {
      localStorage.setItem("mode", mode);
      localStorage.setItem("theme", mode);
    }, mode);
    tab.on("request", (request) => {
      if (!request.url().startsWith(site) && !request.url().startsWith("data:")) {
        note(`a request to another host: ${request.url()}`);
      }
    });
    tab.on("response", (response) => response.status() < 400 || note(`${response.status()} for ${response.url()}`));
    tab.on("pageerror", (error) => note(`an error of a script: ${error.message}`));
    for (const page of pages) {
      view = `${page}, ${width} pixels, ${mode}`;
      await tab.goto(site + page, { waitUntil: "load" });
      if (await tab.evaluate(() => document.documentElement.scrollWidth > innerWidth)) {
        note("wider than the window");
      }
      await tab.evaluate(axe);
      const { violations } = await tab.evaluate(() => axe.run({ resultTypes: ["violations"] }));
      for (const { id, help, nodes } of violations) {
        nodes.forEach((node) => note(`${id}: ${help}: ${node.target.join(" ")}`));
      }
      await tabThrough(tab);
    }
    await tab.close();
  }
}
await browser.close();
server.close();

for (const [what, views] of findings) {
  console.log(`${what}\n    in ${views.length} views, such as ${views[0]}`);
}
console.log(`${pages.length} pages, ${4 * pages.length} views, ${findings.size} findings`);
process.exitCode = findings.size || !pages.length ? 1 : 0;
