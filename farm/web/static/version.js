// A version on its own page.

import "./page.js";
import { findViewers } from "./viewer.js";

findViewers();
