import { mount } from "svelte";
import App from "./App.svelte";
import "./style.css";
import "./theme";

const place = document.getElementById("app");
if (place) mount(App, { target: place });
