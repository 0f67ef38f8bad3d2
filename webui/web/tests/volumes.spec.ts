// The day's work with volumes, against the real appliance.

import { Appliance } from "./appliance";
import { dialog, expect, signIn, test } from "./fixtures";

const HOST = "nqn.2014-08.org.nvmexpress:uuid:2c9c6b5e-5b5d-4b5e-9c5e-3b5d5b5e9c5e";

test("a token that is wrong is refused in the appliance's own words", async ({ page, appliance }) => {
  await page.goto(appliance.url);
  await page.getByLabel("Token").fill("forebay_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toHaveText("The token is not known: it is mistyped or was revoked.");
  await page.getByLabel("Token").fill(appliance.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator("#well")).toBeVisible();
  // What was shown once is in no place that a script reads.
  expect(await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }]))).not.toContain("forebay_");
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Token")).toBeVisible();
});

test("of an appliance of which nobody has asked anything all is well", async ({ page }) => {
  const fresh = await Appliance.start();
  await signIn(page, fresh);
  await expect(page.getByRole("heading", { name: "All is well" })).toBeVisible();
  await fresh.end();
});

test("a volume is made, connected to, limited, grown and deleted", async ({ page, appliance, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signIn(page, appliance, "/volumes");
  await page.getByRole("button", { name: "Create a volume" }).click();
  // What is wrong is said beside the field that it is about.
  await dialog(page).getByLabel("Name").fill("no name");
  await dialog(page).getByLabel("Size", { exact: true }).fill("1GB");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();
  const name = dialog(page).getByLabel("Name");
  await expect(name).toHaveAttribute("aria-invalid", "true");
  await expect(name).toHaveAccessibleDescription(/"no name" is no name: start with a letter or digit/);
  await name.fill("scratch");
  await dialog(page).getByLabel("Hosts", { exact: true }).fill(HOST);
  await expect(dialog(page)).toContainText("Makes tank/scratch of 954 MiB");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();

  // The line that is copied is the one that the appliance gives.
  await expect(page.getByRole("heading", { name: "tank/scratch" })).toBeVisible();
  await page.getByRole("button", { name: "Copy the lines that connect over tcp" }).click();
  const copied = (await page.evaluate(() => navigator.clipboard.readText())).split("\n");
  const info = await appliance.ask<{ lines: string[]; subsystem: string }>("GET", "/pools/tank/volumes/scratch/connect-info");
  expect(copied).toEqual(["modprobe nvme-tcp", info.lines[0]]);

  // A host that does what it says is seen at once, with what it does.
  const stop = appliance.busyHost(info.subsystem, "--hostnqn", HOST, "--length", "900MiB");
  await expect(page.getByRole("region", { name: "Hosts and paths" }).getByRole("link", { name: HOST })).toBeVisible();
  await expect(page.getByRole("img", { name: /Commands a second, of late: read .*, write [1-9]/ })).toBeVisible();
  await stop();
  await expect(page.getByRole("table", { name: "Writes: how long commands took" }).getByRole("row").nth(1)).toBeVisible();

  await page.getByRole("button", { name: "Limits" }).click();
  await dialog(page).getByLabel("Most IOPS").fill("500");
  await dialog(page).getByLabel("Most a second").fill("12");
  await dialog(page).getByRole("button", { name: "Set" }).click();
  await expect(dialog(page).getByLabel("Most a second")).toHaveAccessibleDescription(/limits.bytes_per_second must be between 4096/);
  await dialog(page).getByLabel("Most a second").fill("100MiB");
  await dialog(page).getByRole("button", { name: "Set" }).click();
  await expect(page.getByText("500 IOPS, 100MiB/s")).toBeVisible();

  await page.getByRole("button", { name: "Resize" }).click();
  await dialog(page).getByLabel("New size").fill("2GiB");
  await dialog(page).getByRole("button", { name: "Resize" }).click();
  await expect(page.getByText("2 GiB, blocks of")).toBeVisible();
  await page.getByRole("button", { name: "Resize" }).click();
  await dialog(page).getByLabel("New size").fill("1GiB");
  await expect(dialog(page).getByText("What lies behind 1 GiB is lost")).toBeVisible();
  await expect(dialog(page).getByRole("button", { name: "Shrink" })).toBeDisabled();
  await dialog(page).getByLabel("Type scratch to go on").fill("scratch");
  await dialog(page).getByRole("button", { name: "Shrink" }).click();
  await expect(page.getByText("1 GiB, blocks of")).toBeVisible();

  await page.getByRole("button", { name: "More actions for the volume" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await expect(dialog(page)).toContainText("There is no way back.");
  await expect(dialog(page).getByRole("button", { name: "Delete" })).toBeDisabled();
  await dialog(page).getByLabel("Type scratch to go on").fill("scratch");
  await dialog(page).getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "Volumes", exact: true })).toBeVisible();
  await expect(page.getByRole("link", { name: "tank/scratch" })).toHaveCount(0);
});

test("who may connect is changed, and an export taken back", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "shared", bytes: 2 ** 20 });
  await signIn(page, appliance, "/volumes/tank/shared");
  await expect(page.getByText("nobody: list a host first")).toBeVisible();
  await page.getByRole("button", { name: "More actions for the volume" }).click();
  await page.getByRole("menuitem", { name: "Who may connect…" }).click();
  await dialog(page).getByLabel("Hosts", { exact: true }).fill("nqn.2014-08.org.nvmexpress:uuid:x");
  await dialog(page).getByRole("button", { name: "Set" }).click();
  await expect(dialog(page).getByRole("alert")).toContainText("is the NQN of no host: there is no UUID");
  await dialog(page).getByLabel("Any host that reaches it").check();
  await dialog(page).getByRole("button", { name: "Set" }).click();
  await expect(page.getByText("any host that reaches it", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "More actions for the volume" }).click();
  await page.getByRole("menuitem", { name: "Export it no more…" }).click();
  await dialog(page).getByRole("button", { name: "Export it no more" }).click();
  await expect(page.getByText("It is not exported: no host reaches it.")).toBeVisible();
  await appliance.ask("DELETE", "/pools/tank/volumes/shared");
  await expect(page.getByRole("alert")).toContainText("shared");
});

test("snapshots are taken, cloned, promoted, rolled back to and deleted", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "base", bytes: 2 ** 26, allow_any_host: true });
  await signIn(page, appliance, "/volumes/tank/base");
  await page.getByRole("button", { name: "Take a snapshot" }).click();
  await dialog(page).getByLabel("Name").fill("monday");
  await dialog(page).getByRole("button", { name: "Take it" }).click();
  const actions = page.getByRole("button", { name: "Actions for snapshot monday" });
  await expect(actions).toBeVisible();

  await actions.click();
  await page.getByRole("menuitem", { name: "Roll the volume back to it…" }).click();
  await dialog(page).getByLabel("Type base to go on").fill("base");
  await dialog(page).getByRole("button", { name: "Roll back" }).click();
  await expect(dialog(page)).toHaveCount(0);

  await actions.click();
  await page.getByRole("menuitem", { name: "Clone…" }).click();
  await dialog(page).getByLabel("Name of the new volume").fill("base");
  await dialog(page).getByRole("button", { name: "Clone" }).click();
  await expect(dialog(page).getByLabel("Name of the new volume")).toHaveAccessibleDescription(/there already/);
  await dialog(page).getByLabel("Name of the new volume").fill("try");
  await dialog(page).getByRole("button", { name: "Clone" }).click();
  await expect(page.getByRole("heading", { name: "tank/try" })).toBeVisible();
  await expect(page.getByText("This volume is a clone of")).toBeVisible();

  await page.getByRole("button", { name: "More actions for the volume" }).click();
  await page.getByRole("menuitem", { name: "Promote…" }).click();
  await dialog(page).getByRole("button", { name: "Promote" }).click();
  await expect(page.getByText("This volume is a clone of")).toHaveCount(0);
  await expect(page.getByText("@monday")).toBeVisible();
  await expect(page.getByRole("link", { name: "base" })).toBeVisible();

  await page.getByRole("button", { name: "Actions for snapshot monday" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await dialog(page).getByLabel("Type monday to go on").fill("monday");
  await dialog(page).getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("No snapshot was taken.")).toBeVisible();
  for (const name of ["base", "try"]) await appliance.ask("DELETE", `/pools/tank/volumes/${name}`);
});

test("what one browser does another one sees", async ({ page, appliance, browser }) => {
  await signIn(page, appliance, "/volumes");
  const other = await browser.newPage();
  await signIn(other, appliance, "/volumes");
  await other.getByRole("button", { name: "Create a volume" }).click();
  await dialog(other).getByLabel("Name").fill("seen");
  await dialog(other).getByRole("button", { name: "Create", exact: true }).click();
  await expect(page.getByRole("link", { name: "tank/seen" })).toBeVisible();
  await page.getByLabel("Search volumes").fill("nothing like it");
  await expect(page.getByText("No volume is like that.")).toBeVisible();
  await appliance.ask("DELETE", "/pools/tank/volumes/seen");
  await expect(other.getByRole("alert")).toContainText("seen");
  await other.close();
});

test("a dialog keeps the focus, and gives it back", async ({ page, appliance }) => {
  await signIn(page, appliance, "/volumes");
  const opens = page.getByRole("button", { name: "Create a volume" });
  await opens.focus();
  await page.keyboard.press("Enter");
  await expect(dialog(page)).toBeVisible();
  for (let presses = 0; presses < 25; presses++) {
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.closest("[role=dialog]") !== null)).toBe(true);
  }
  await page.keyboard.press("Escape");
  await expect(dialog(page)).toHaveCount(0);
  await expect(opens).toBeFocused();
});
