import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  outputDir: "../../build/web-tests",
  workers: 2,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  forbidOnly: true,
  // On machines that are busy with other things: what passed the second time only is printed as flaky.
  retries: process.env.CI ? 1 : 0,
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 900 },
    locale: "en-GB",
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.FOREBAY_CHROMIUM ?? "/usr/bin/chromium",
      // Root has no sandbox of Chromium's; the page is our own.
      args: ["--no-sandbox"],
    },
  },
});
