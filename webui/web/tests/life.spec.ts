// An appliance that goes away, tokens that end, roles: what the page says then.

import { expect, signIn, test } from "./fixtures";

test("an appliance that was killed is said to be gone, and its page goes on", async ({ page, appliance }) => {
  await signIn(page, appliance, "/volumes");
  await appliance.kill();
  await expect(page.getByText(/^Reconnecting\. Stale since/)).toBeVisible();
  await appliance.run();
  // Sessions are gone with the process; one goes on where one was.
  await expect(page.getByText(/^The session has ended: (log|sign) in again\.$/)).toBeVisible();
  await page.getByLabel("Token").fill(appliance.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Volumes", exact: true })).toBeVisible();
  await expect(page.getByText("Live", { exact: true })).toBeVisible();
  await appliance.ask("POST", "/pools/tank/volumes", { name: "after", bytes: 2 ** 20 });
  await expect(page.getByRole("link", { name: "tank/after" })).toBeVisible();
  await appliance.ask("DELETE", "/pools/tank/volumes/after");
});

test("a token that is revoked ends its sessions", async ({ page, appliance }) => {
  const token = await appliance.tokenOf("short", "operator");
  await signIn(page, appliance, "/volumes", token);
  await appliance.ask("DELETE", "/tokens/short");
  await expect(page.getByLabel("Token")).toBeVisible();
  await expect(page.getByRole("status")).toContainText("The session has ended");
});

test("who only looks is offered nothing else", async ({ page, appliance }) => {
  await appliance.ask("POST", "/pools/tank/volumes", { name: "kept", bytes: 2 ** 20, allow_any_host: true });
  const token = await appliance.tokenOf("eyes", "viewer");
  await signIn(page, appliance, "/volumes", token);
  await expect(page.getByRole("link", { name: "tank/kept" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Create a volume" })).toHaveCount(0);
  await page.getByRole("link", { name: "tank/kept" }).click();
  await expect(page.getByRole("heading", { name: "tank/kept" })).toBeVisible();
  await expect(page.getByText("eyes (viewer)")).toBeVisible();
  for (const name of ["Resize", "Limits", "More actions for the volume", "Take a snapshot"]) {
    await expect(page.getByRole("button", { name })).toHaveCount(0);
  }
});

test("an operator lets in no host that is not named", async ({ page, appliance }) => {
  const token = await appliance.tokenOf("hands", "operator");
  await signIn(page, appliance, "/volumes", token);
  await page.getByRole("button", { name: "Create a volume" }).click();
  await expect(page.getByLabel("Any host that reaches it")).toBeDisabled();
});

test("a link of the command line signs in, once", async ({ page, appliance, browser }) => {
  const link = appliance.command("ui").trim().replace(appliance.own, appliance.url);
  expect(link).toMatch(/\/#\/code\/forebay_[0-9a-f]{64}$/);
  await page.goto(link);
  await expect(page.getByText("local (admin)")).toBeVisible();
  // Neither in the address, nor in the history.
  expect(page.url()).not.toContain("code");
  const other = await browser.newPage();
  await other.goto(link);
  await expect(other.getByText("The link is not good any more: it is good once, and for five minutes.")).toBeVisible();
  await other.close();
});
