// What the appliance serves: how much, under which policy, and in which types.

import { gunzipSync } from "node:zlib";
import { get } from "node:http";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "./fixtures";

/** A file as a browser asks for it: packed. */
function ask(url: string): Promise<{ headers: Record<string, string>; body: Buffer }> {
  return new Promise((answered, failed) =>
    get(url, { headers: { "accept-encoding": "gzip" } }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => answered({ headers: response.headers as Record<string, string>, body: Buffer.concat(parts) }));
    }).on("error", failed),
  );
}

test("the first page is small, packed, and runs nothing that stands in it", async ({ appliance }) => {
  const start = await ask(`${appliance.url}/`);
  const html = gunzipSync(start.body).toString();
  expect(start.headers["content-security-policy"]).toContain("default-src 'self'");
  expect(start.headers["content-security-policy"]).not.toContain("unsafe");
  expect(html).not.toMatch(/<style|<script(?![^>]*src=)| style=| on\w+=/);
  const files = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path ?? "");
  expect(files.length).toBeGreaterThanOrEqual(3);
  let bytes = start.body.length;
  for (const file of files) {
    const { headers, body } = await ask(`${appliance.url}${file}`);
    expect(headers["content-encoding"]).toBe("gzip");
    bytes += body.length;
  }
  console.log(`first page: ${bytes} bytes, packed`);
  expect(bytes).toBeLessThan(200_000);
});

test("the types of the page are those of the document", async ({ appliance }, info) => {
  const here = info.outputPath("openapi.json");
  const made = info.outputPath("schema.d.ts");
  writeFileSync(here, await (await fetch(`${appliance.url}/api/v1/openapi.json`)).text());
  const root = join(import.meta.dirname, "..");
  execFileSync(process.execPath, [join(root, "node_modules/openapi-typescript/bin/cli.js"), here, "-o", made], { stdio: "ignore" });
  expect(readFileSync(made, "utf8") === readFileSync(join(root, "src/api/schema.d.ts"), "utf8"), "run scripts/web types").toBe(true);
});
