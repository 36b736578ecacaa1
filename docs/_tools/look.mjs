// Looks at each page of the built site as people do: in Chromium, on a phone and on a desk, light and
// dark. Prints what axe-core finds, what is wider than the window, what a script or a request fails
// on, and requests to other hosts; with findings it exits with 1.
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
