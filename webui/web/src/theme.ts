// Light, dark, or as the machine has it. Kept in the browser; nothing else is.

export type Theme = "auto" | "light" | "dark";
const KEY = "forebay-theme";

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

export function setTheme(to: Theme): void {
  localStorage.setItem(KEY, to);
  show(to);
}

function show(to: Theme): void {
  if (to === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = to;
}

show(theme());
