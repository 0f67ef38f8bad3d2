// Pools and devices, hosts, subsystems and listeners, jobs, events, tokens: against the real appliance.

import { dialog, expect, signIn, test } from "./fixtures";

const HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555";

test("a pool is made, given a device, emptied of one and deleted", async ({ page, appliance }) => {
  const [first, second] = ["a.img", "b.img"].map((name) => appliance.disk(name, 2 * 2 ** 30));
  await signIn(page, appliance, "/pools");
  await page.getByRole("button", { name: "Create a pool" }).click();
  await dialog(page).getByLabel("Name").fill("lake");
  await dialog(page).getByLabel("Path").fill("/etc/passwd");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();
  await expect(dialog(page).getByRole("alert")).toContainText("/etc/passwd");
  await dialog(page).getByLabel("Path").fill(first ?? "");
  await expect(dialog(page)).toContainText("Makes lake of 1 device.");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();
  await expect(page.getByRole("heading", { name: "lake" })).toBeVisible();

  await page.getByRole("button", { name: "Add a device" }).click();
  await dialog(page).getByLabel("Path").fill(second ?? "");
  await dialog(page).getByRole("button", { name: "Add" }).click();
  await expect(page.getByRole("button", { name: "Actions for device b.img" })).toBeVisible();

  // Something that has to move.
  await appliance.ask("POST", "/pools/lake/volumes", { name: "moves", bytes: 2 ** 29, allow_any_host: true });
  await appliance.host("nqn.2026-01.io.forebay:lake:moves", "--length", "256MiB");
  await page.getByRole("button", { name: "Actions for device a.img" }).click();
  await page.getByRole("menuitem", { name: "Move its data away…" }).click();
  await dialog(page).getByRole("button", { name: "Begin" }).click();
  await expect(page.getByRole("region", { name: "Jobs" }).getByText("Moves data away from")).toBeVisible();
  await expect(page.getByRole("button", { name: "Actions for device a.img" })).toHaveCount(0, { timeout: 40_000 });
  await page.goto(`${appliance.url}/#/jobs`);
  await expect(page.getByRole("row", { name: /Moves data away from.*done/ })).toBeVisible();

  await page.goto(`${appliance.url}/#/pools/lake`);
  await page.getByRole("button", { name: "More actions for the pool" }).click();
  await page.getByRole("menuitem", { name: "Space that is given back…" }).click();
  await dialog(page).getByLabel("None").check();
  await dialog(page).getByRole("button", { name: "Set" }).click();
  await expect(page.getByText("What nobody needs is given back: to none.")).toBeVisible();

  const remove = async () => {
    await page.getByRole("button", { name: "More actions for the pool" }).click();
    await page.getByRole("menuitem", { name: "Delete…" }).click();
    await dialog(page).getByLabel("Type lake to go on").fill("lake");
    await dialog(page).getByRole("button", { name: "Delete" }).click();
  };
  await remove();
  await expect(dialog(page).getByRole("alert")).toContainText("lake");
  await dialog(page).getByRole("button", { name: "Cancel" }).click();
  await appliance.ask("DELETE", "/pools/lake/volumes/moves");
  await expect(page.getByText("0 volumes, 0 snapshots")).toBeVisible();
  await expect(async () => {
    if ((await dialog(page).count()) === 0) await remove();
    else await dialog(page).getByRole("button", { name: "Delete" }).click();
    await expect(page.getByRole("heading", { name: "Pools" })).toBeVisible({ timeout: 1000 });
  }).toPass();
  for (const name of ["a.img", "b.img"]) await appliance.ask("DELETE", `/devices/${name}`).catch(() => {});
});

test("a pool is exported for another machine, and imported", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools", { name: "moved", devices: [appliance.disk("moved.img", 2 ** 30)] });
  await signIn(page, appliance, "/pools/moved");
  await page.getByRole("button", { name: "More actions for the pool" }).click();
  await page.getByRole("menuitem", { name: "Export it for another machine…" }).click();
  await dialog(page).getByLabel("Type moved to go on").fill("moved");
  await dialog(page).getByRole("button", { name: "Export" }).click();
  await expect(page.getByRole("heading", { name: "Pools" })).toBeVisible();
  await expect(page.getByRole("link", { name: "moved" })).toHaveCount(0);
  await page.getByRole("button", { name: "Import a pool" }).click();
  await dialog(page).getByRole("radio", { name: /^moved on / }).check();
  await dialog(page).getByRole("button", { name: "Import" }).click();
  await expect(page.getByRole("heading", { name: "moved" })).toBeVisible();
  await appliance.ask("DELETE", "/pools/moved");
});

test("a device is attached, looked at again and let go", async ({ page, appliance }) => {
  await signIn(page, appliance, "/devices");
  await page.getByRole("button", { name: "Attach a device" }).click();
  await dialog(page).getByLabel("Path").fill("not/absolute");
  await dialog(page).getByRole("button", { name: "Attach" }).click();
  await expect(dialog(page).getByLabel("Path")).toHaveAccessibleDescription(/is no device: give the name of one that is attached, an absolute path/);
  await dialog(page).getByLabel("Path").fill("");
  await dialog(page).getByLabel("Name").fill("scrap");
  await dialog(page).getByLabel("Size").fill("16MiB");
  await dialog(page).getByRole("button", { name: "Attach" }).click();
  await expect(page.getByText("memory: gone when the appliance ends")).toBeVisible();
  await page.getByRole("button", { name: "Actions for device scrap" }).click();
  await page.getByRole("menuitem", { name: "Look at its size again" }).click();
  await expect(page.getByText("scrap has 16 MiB.")).toBeVisible();
  await page.getByRole("button", { name: "Actions for device scrap" }).click();
  await page.getByRole("menuitem", { name: "Let go of it…" }).click();
  await dialog(page).getByRole("button", { name: "Let go" }).click();
  await expect(page.getByRole("button", { name: "Actions for device scrap" })).toHaveCount(0);
});

test("a host that was refused is let in by one click, and connects", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "guarded", bytes: 2 ** 26, hosts: ["nqn.2026-01.org.example:other"] });
  const nqn = "nqn.2026-01.io.forebay:tank:guarded";
  const refused = await appliance.host(nqn, "--hostnqn", HOST, "--length", "1MiB");
  expect(refused.code).not.toBe(0);
  await signIn(page, appliance);
  await expect(page.getByRole("heading", { name: "Somebody should look at this" })).toBeVisible();
  await page.getByRole("link", { name: HOST }).first().click();
  await expect(page.getByText(/It was refused: it is not among the hosts that may connect/)).toBeVisible();
  await page.getByRole("link", { name: "Hosts" }).first().click();
  await page.getByRole("button", { name: `Let ${HOST} in` }).click();
  await expect(dialog(page).getByLabel("Subsystem")).toHaveValue(nqn);
  await dialog(page).getByRole("button", { name: "Let it in" }).click();
  await expect(page.getByRole("heading", { name: "Refused of late" })).toHaveCount(0);

  const stop = appliance.busyHost(nqn, "--hostnqn", HOST, "--length", "64MiB");
  await page.getByRole("link", { name: HOST }).click();
  await expect(page.getByRole("region", { name: "Paths and queues" }).getByText(/tcp, controller \d+/)).toBeVisible();
  await expect(page.getByRole("table", { name: "Writes: how long commands took" })).toBeVisible();
  await stop();
  await page.getByRole("button", { name: `Let it see ${nqn} no more` }).click();
  await dialog(page).getByRole("button", { name: "Let it see that no more" }).click();
  await expect(page.getByText("No subsystem lists it.")).toBeVisible();
  await appliance.ask("DELETE", "/pools/tank/volumes/guarded");
});

test("a subsystem is made, given a namespace, and deleted; a listener comes and goes", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "common", bytes: 2 ** 20, subsystem: null });
  await appliance.ask("DELETE", "/pools/tank/volumes/common/export");
  await signIn(page, appliance, "/subsystems");
  await page.getByRole("button", { name: "Make a subsystem" }).click();
  await dialog(page).getByLabel("NQN").fill("no nqn");
  await dialog(page).getByRole("button", { name: "Make it" }).click();
  await expect(dialog(page).getByLabel("NQN")).toHaveAccessibleDescription(/is no NQN/);
  const nqn = "nqn.2026-01.org.example:shared";
  await dialog(page).getByLabel("NQN").fill(nqn);
  await dialog(page).getByRole("button", { name: "Make it" }).click();
  await page.getByRole("button", { name: `Actions for ${nqn}` }).click();
  await page.getByRole("menuitem", { name: "Add a namespace…" }).click();
  await dialog(page).getByLabel("What it shows").fill("tank/common");
  await dialog(page).getByRole("button", { name: "Add" }).click();
  await expect(page.getByRole("link", { name: "1: tank/common" })).toBeVisible();
  await page.getByRole("button", { name: `Actions for ${nqn}` }).click();
  await page.getByRole("menuitem", { name: "Remove namespace 1…" }).click();
  await dialog(page).getByLabel("Type 1 to go on").fill("1");
  await dialog(page).getByRole("button", { name: "Remove" }).click();
  await expect(page.getByRole("link", { name: "1: tank/common" })).toHaveCount(0);
  await page.getByRole("button", { name: `Actions for ${nqn}` }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await dialog(page).getByLabel(`Type ${nqn} to go on`).fill(nqn);
  await dialog(page).getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText(nqn)).toHaveCount(0);

  await page.getByRole("button", { name: "Listen on an address" }).click();
  await dialog(page).getByLabel("Address and port").fill("192.0.2.1:4420");
  await dialog(page).getByRole("button", { name: "Listen" }).click();
  await expect(dialog(page).getByRole("alert")).toContainText("192.0.2.1");
  await dialog(page).getByLabel("Address and port").fill("127.0.0.3:0");
  await dialog(page).getByRole("button", { name: "Listen" }).click();
  await expect(dialog(page).getByRole("alert")).toContainText(/port/);
  await dialog(page).getByRole("button", { name: "Cancel" }).click();
  await appliance.ask("DELETE", "/pools/tank/volumes/common");
});

test("a token is made, used and revoked, and the log says by whom", async ({ page, appliance, browser }) => {
  await signIn(page, appliance, "/settings");
  await page.getByRole("button", { name: "Make a token" }).click();
  await dialog(page).getByRole("textbox", { name: "Name" }).fill("admin");
  await dialog(page).getByRole("button", { name: "Make it" }).click();
  await expect(dialog(page).getByRole("textbox", { name: "Name" })).toHaveAccessibleDescription(/There is a token "admin"/);
  await dialog(page).getByRole("textbox", { name: "Name" }).fill("watch");
  await dialog(page).getByRole("button", { name: "Make it" }).click();
  const secret = await page.getByRole("group", { name: "the token" }).innerText();
  expect(secret).toMatch(/^forebay_[0-9a-f]{64}$/);
  await dialog(page).getByRole("button", { name: "I have kept it" }).click();
  expect(await page.content()).not.toContain(secret);

  const other = await browser.newPage();
  await signIn(other, appliance, "/settings", secret);
  await expect(other.getByText("Tokens and the audit log are for administrators.")).toBeVisible();
  await page.getByRole("button", { name: "Revoke watch" }).click();
  await dialog(page).getByLabel("Type watch to go on").fill("watch");
  await dialog(page).getByRole("button", { name: "Revoke" }).click();
  await expect(page.getByRole("button", { name: "Revoke watch" })).toHaveCount(0);
  await expect(other.getByLabel("Token")).toBeVisible();
  await other.close();
  await expect(page.getByRole("cell", { name: /revoke_token/ }).first()).toBeVisible({ timeout: 25_000 });

  await page.getByRole("button", { name: "Revoke admin" }).click();
  await dialog(page).getByLabel("Type admin to go on").fill("admin");
  await dialog(page).getByRole("button", { name: "Revoke" }).click();
  await expect(dialog(page).getByRole("alert")).toContainText("is the only token with the role admin");
  await dialog(page).getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Show who was let in" }).click();
  await expect(page.getByRole("heading", { name: "Who was let in, and who was refused" })).toBeVisible();
});

test("events are searched, and come as they happen", async ({ page, appliance }) => {
  await signIn(page, appliance, "/events");
  await page.getByLabel("Search events").fill("tank/heard");
  await expect(page.getByText("Nothing has happened.")).toBeVisible();
  await appliance.ask("POST", "/pools/tank/volumes", { name: "heard", bytes: 2 ** 20 });
  await expect(page.getByRole("cell", { name: /Volume tank\/heard of 1.00 MiB is made/ })).toBeVisible();
  await page.getByLabel("Severity").selectOption("critical");
  await expect(page.getByText("Nothing has happened.")).toBeVisible();
  await appliance.ask("DELETE", "/pools/tank/volumes/heard");
});

test("the declaration is saved, and the file read again", async ({ page, appliance }) => {
  await signIn(page, appliance, "/settings");
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save the declaration" }).click();
  const declaration = await (await saved).createReadStream();
  const parts: Buffer[] = [];
  for await (const part of declaration) parts.push(part as Buffer);
  expect(JSON.parse(Buffer.concat(parts).toString())).toEqual(await appliance.ask("GET", "/config"));
  await page.getByRole("button", { name: "Read file and certificate again" }).click();
  await expect(page.getByRole("main").getByRole("status").first()).not.toBeEmpty();
});
