// Every page, light and dark, narrow and wide: without what axe finds wrong, and without what does not
// fit. `scripts/web pictures` makes a picture of each.

import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { dialog, expect, signIn, test } from "./fixtures";
import type { Appliance } from "./appliance";

const HOST = "nqn.2014-08.org.nvmexpress:uuid:2c9c6b5e-5b5d-4b5e-9c5e-3b5d5b5e9c5e";
const PLACES = [
  ["overview", "/"],
  ["volumes", "/volumes"],
  ["volume", "/volumes/tank/shown"],
  ["pools", "/pools"],
  ["pool", "/pools/tank"],
  ["devices", "/devices"],
  ["hosts", "/hosts"],
  ["host", `/hosts/${encodeURIComponent(HOST)}`],
  ["subsystems", "/subsystems"],
  ["jobs", "/jobs"],
  ["events", "/events"],
  ["settings", "/settings"],
] as const;
const FORMS = [
  { colorScheme: "light", width: 1280, height: 900 },
  { colorScheme: "dark", width: 1280, height: 900 },
  { colorScheme: "light", width: 360, height: 740 },
  { colorScheme: "dark", width: 2200, height: 1100 },
] as const;

/** Something of everything, with names as long as they may be. */
async function furnish(appliance: Appliance): Promise<void> {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "shown", bytes: 2 ** 30, allow_any_host: true, limits: { iops: 5000 } });
  await appliance.ask("POST", "/pools/tank/volumes", { name: `long-${"x".repeat(58)}`, bytes: 2 ** 30, hosts: [HOST] });
  await appliance.ask("POST", "/pools/tank/volumes/shown/snapshots", { name: `snap-${"y".repeat(58)}` });
  await appliance.ask("POST", `/pools/tank/volumes/shown/snapshots/snap-${"y".repeat(58)}/clone`, { name: "clone" });
  await appliance.host("nqn.2026-01.io.forebay:tank:shown", "--length", "64MiB");
  // One that is not let in.
  await appliance.host(`nqn.2026-01.io.forebay:tank:long-${"x".repeat(58)}`, "--length", "1MiB");
}

async function fits(page: Page): Promise<void> {
  expect.soft(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), "the page is wider than the window").toBeLessThanOrEqual(0);
}

async function judge(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect.soft(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
}

test.beforeAll(async ({ appliance }) => furnish(appliance));

for (const { colorScheme, ...viewport } of FORMS) {
  test.describe(`${colorScheme}, ${viewport.width} wide`, () => {
    test.use({ colorScheme, viewport });
    test("pages are for everybody @pictures", async ({ page, appliance }) => {
      await page.goto(appliance.url);
      await expect(page.getByLabel("Token")).toBeVisible();
      await judge(page);
      await signIn(page, appliance);
      for (const [name, place] of PLACES) {
        await page.goto(`${appliance.url}/#${place}`);
        await expect(page.getByText("Loading…")).toHaveCount(0);
        await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
        if (["overview", "volume"].includes(name)) await expect(page.getByRole("img", { name: /^Latency, median, of late/ })).toBeVisible();
        await fits(page);
        await judge(page);
        const pictures = process.env.FOREBAY_PICTURES;
        if (pictures) await page.screenshot({ path: `${pictures}/${name}-${colorScheme}-${viewport.width}.png`, fullPage: true });
      }
      await page.goto(`${appliance.url}/#/volumes`);
      await page.getByRole("button", { name: "Create a volume" }).click();
      await expect(dialog(page).getByLabel("Pool")).toContainText("tank");
      await fits(page);
      await judge(page);
    });
  });
}
