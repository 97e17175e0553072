import { render } from "preact";

import { App } from "./app";
import { start } from "./session/session";
import "./style.css";

const place = document.getElementById("console");
if (place !== null) {
  render(<App />, place);
  void start();
}
