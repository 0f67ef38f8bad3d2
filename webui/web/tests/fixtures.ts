// What the tests share: an appliance for each file, and a page that complains about nothing.

import { test as plain, expect, type Page } from "@playwright/test";
import { Appliance } from "./appliance";

export { expect } from "@playwright/test";

/** What a browser says that is no fault of the page: an answer that was refused. */
const EXPECTED = /^Failed to load resource/;

export function complaints(page: Page): string[] {
  const said: string[] = [];
  page.on("pageerror", (error) => said.push(`thrown: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !EXPECTED.test(message.text())) said.push(message.text());
  });
  return said;
}

export const test = plain.extend<{ quiet: void }, { appliance: Appliance }>({
  appliance: [
    async ({}, use) => {
      const appliance = await Appliance.start();
      const disks = ["one.img", "two.img"].map((name) => appliance.disk(name, 4 * 2 ** 30));
      await appliance.ask("POST", "/pools", { name: "tank", devices: disks });
      await use(appliance);
      await appliance.end();
    },
    { scope: "worker" },
  ],
  // Neither an exception, nor a warning, nor anything that the policy of the page forbids.
  quiet: [
    async ({ page }, use) => {
      const said = complaints(page);
      await use();
      expect(said).toEqual([]);
    },
    { auto: true },
  ],
});

export async function signIn(page: Page, appliance: { url: string; token: string }, path = "/", token = appliance.token): Promise<void> {
  await page.goto(`${appliance.url}/#${path}`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByText("Live", { exact: true })).toBeVisible();
}

export const dialog = (page: Page) => page.getByRole("dialog");
