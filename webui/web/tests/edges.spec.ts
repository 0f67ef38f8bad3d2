// An API that has much, says what it should not, is slow, fails and refuses.

import { expect, test as plain } from "@playwright/test";
import { complaints } from "./fixtures";
import { Front } from "./front";
import { answer, madeUp, refuse, type MadeUp } from "./made-up";

const test = plain.extend<{ made: MadeUp; url: string }>({
  made: async ({}, use) => use(madeUp()),
  url: async ({ made }, use) => {
    const front = await Front.start(answer(made));
    await use(front.url);
    await front.close();
  },
});

const PLACES = ["", "volumes", "volumes/tank/one", "pools", "pools/tank", "devices", "hosts", "hosts/nqn.host", "subsystems", "jobs", "events", "settings"];

test("ten thousand volumes are a list that one searches, sorts and scrolls", async ({ page, made, url }) => {
  made.volumes = 10_000;
  const said = complaints(page);
  await page.goto(`${url}/#/volumes`);
  await expect(page.getByText("10,000 volumes")).toBeVisible();
  // Only what is seen is there.
  expect(await page.getByRole("row").count()).toBeLessThan(80);
  await expect(page.getByRole("link", { name: "tank/volume-00000", exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Size" }).click();
  await expect(page.getByRole("link", { name: "tank/volume-09999" })).toBeVisible();
  await expect(page.getByRole("columnheader", { name: "Size" })).toHaveAttribute("aria-sort", "descending");
  const list = page.getByRole("group", { name: "Volumes" });
  await list.evaluate((element) => (element.scrollTop = element.scrollHeight));
  await expect(page.getByRole("link", { name: "tank/volume-00000", exact: true })).toBeVisible();
  await page.getByLabel("Search volumes").fill("volume-04321");
  await expect(page.getByText("1 of 10,000 volumes")).toBeVisible();
  await expect(page.getByRole("link", { name: "tank/volume-04321" })).toBeVisible();
  await page.getByLabel("Search volumes").fill("");
  await page.getByLabel("Status").selectOption("degraded");
  await expect(page.getByText("100 of 10,000 volumes")).toBeVisible();
  // What a browser does with a key press: measured in its own clock, and printed, not judged.
  const took = await page.evaluate(async () => {
    const began = performance.now();
    const field = document.querySelector<HTMLInputElement>("[aria-label='Search volumes']");
    if (field) field.value = "9";
    field?.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)));
    return performance.now() - began;
  });
  console.log(`a search in 10,000 volumes took ${took.toFixed(0)} ms`);
  expect(said).toEqual([]);
});

const ATTACKS = [`<img src=x onerror="window.hit=1">`, `"><script>window.hit=1</script>`, `javascript:window.hit=1`, `{@html '<b>'}</td></table><svg onload=window.hit=1>`];
for (const [at, attack] of ATTACKS.entries()) {
  test(`text that is code stays text, ${at}`, async ({ page, made, url }) => {
    made.text = attack;
    const said = complaints(page);
    for (const place of PLACES) {
      await page.goto(`${url}/#/${place}`);
      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
      await expect(page.getByText("Loading…")).toHaveCount(0);
      await expect(page.getByText(attack).first()).toBeVisible();
      expect(await page.evaluate(() => ({ hit: "hit" in window, made: document.querySelectorAll("main script, main img:not([src='/icon.svg']), main [onerror], main [onload], a[href^=javascript]").length }))).toEqual({ hit: false, made: 0 });
    }
    // What is refused is text, too.
    made.instead.set("POST pools/tank/volumes", refuse(422, "invalid", attack));
    await page.goto(`${url}/#/volumes`);
    await page.getByRole("button", { name: "Create a volume" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("x");
    await page.getByRole("dialog").getByRole("button", { name: "Create", exact: true }).click();
    await expect(page.getByRole("alert")).toHaveText(attack);
    expect(said).toEqual([]);
  });
}

test("an API that is slow is waited for, and asked once", async ({ page, made, url }) => {
  made.slowMs = 1500;
  await page.goto(`${url}/#/volumes`);
  await expect(page.getByText("Loading…").first()).toBeVisible();
  await expect(page.getByText("3 volumes")).toBeVisible();
  made.instead.set("POST pools/tank/volumes", refuse(409, "full", "There is no room for it."));
  await page.getByRole("button", { name: "Create a volume" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("x");
  const create = page.getByRole("dialog").getByRole("button", { name: "Create", exact: true });
  await create.click();
  await expect(page.getByRole("button", { name: "Working…" })).toBeDisabled();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toHaveText("There is no room for it.");
  await expect(create).toBeEnabled();
  expect(made.asked.filter((one) => one === "POST pools/tank/volumes")).toHaveLength(1);
});

test("what fails is said, with since when what is shown is old, and tried again", async ({ page, made, url }) => {
  await page.goto(`${url}/#/volumes`);
  await expect(page.getByText("3 volumes")).toBeVisible();
  made.instead.set("GET volumes", refuse(500, "internal", "The appliance has a fault: its log says more."));
  await page.goto(`${url}/#/pools`);
  await page.goto(`${url}/#/volumes`);
  await expect(page.getByRole("alert")).toContainText("The appliance has a fault: its log says more.");
  made.instead.delete("GET volumes");
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("3 volumes")).toBeVisible();
  // What is no answer of the API at all.
  made.instead.set("GET pools", (response) => void response.writeHead(502).end("<html>gateway"));
  await page.goto(`${url}/#/pools`);
  await expect(page.getByRole("alert")).toContainText(/answered 502|cannot be read/);
  made.instead.set("GET pools", (response) => void response.writeHead(200, { "content-type": "application/json" }).end("{"));
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("alert")).toContainText("cannot be read");
});

test("a session that ends in the middle of the work leads to the sign-in, and back", async ({ page, made, url }) => {
  await page.goto(`${url}/#/pools/tank`);
  await expect(page.getByRole("heading", { name: "tank" })).toBeVisible();
  await page.getByRole("button", { name: "Add a device" }).click();
  await expect(page.getByRole("dialog")).toBeVisible();
  for (const part of ["GET ", "POST pools"]) made.instead.set(part, refuse(401, "unauthenticated", "The session has ended: log in again."));
  await expect(page.getByLabel("Token")).toBeVisible();
  await expect(page.getByRole("status")).toContainText("The session has ended: log in again.");
  made.instead.clear();
  made.instead.set("POST session", (response) => void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ name: "admin", role: "admin" })));
  await page.getByLabel("Token").fill("forebay_x");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "tank" })).toBeVisible();
});

test("a stream that may not be opened is said, and the page works", async ({ page, made, url }) => {
  made.instead.set("GET events/stream", refuse(503, "unavailable", "Too many streams of events are open with this token: close some."));
  await page.goto(`${url}/#/volumes`);
  await expect(page.getByText("Too many streams of events are open with this token: close some.")).toBeVisible();
  await expect(page.getByText("3 volumes")).toBeVisible();
  made.instead.clear();
  await expect(page.getByText("Live", { exact: true })).toBeVisible();
});

test("a page that nobody sees asks for nothing", async ({ page, made, url }) => {
  await page.goto(`${url}/#/`);
  await expect(page.getByRole("img", { name: /^Commands a second, of late/ })).toBeVisible();
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  // What was under way comes to its end.
  await page.waitForTimeout(500);
  const before = made.asked.length;
  // Longer than two looks: nothing is waited for but time, since nothing happens.
  await page.waitForTimeout(5000);
  expect(made.asked.slice(before)).toEqual([]);
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: false, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await expect.poll(() => made.asked.slice(before)).toContain("GET events/stream");
});
