"""The keys of the blind duel, and the look of its buttons: what the thumb reaches on a phone, what goes away by itself."""

from __future__ import annotations

KEYS = """
const keys = {ArrowLeft: 'duel-a', ArrowUp: 'duel-tie', ArrowDown: 'duel-bad', ArrowRight: 'duel-b', Enter: 'duel-next', Backspace: 'duel-undo'};
const quiet_ms = 600;
let shown_ms = 0, pressed_ms = 0, last = '';
const typed = 'input, textarea, select, [contenteditable=""], [contenteditable="true"], [role="textbox"], [role="listbox"], .cm-editor';
const find = id => {
  const button = document.getElementById(id);
  return button && button.offsetParent !== null && !button.disabled ? button : null;
};
const press = event => {
  if (!element.isConnected) return document.removeEventListener('keydown', press);
  if (element.offsetParent === null || event.isComposing || event.keyCode === 229 || event.defaultPrevented) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !(event.key in keys)) return;
  const place = event.target;
  if (place && place.closest && place.closest(typed)) return;
  if (event.key === 'Enter' && place && place.closest && place.closest('button, a, summary, [role="button"]')) return;
  let button = find(keys[event.key]);
  if (!button && event.key === 'ArrowRight') {
    button = find('duel-next');
    if (button && Date.now() - shown_ms < quiet_ms) button = null;
  }
  if (!find('duel-a') && !find('duel-next')) return;
  event.preventDefault();
  if (!button || event.repeat || (event.key === last && Date.now() - pressed_ms < 150)) return;
  pressed_ms = Date.now();
  last = event.key;
  if (document.activeElement && document.activeElement !== document.body) document.activeElement.blur();
  button.click();
};
document.addEventListener('keydown', press);
watch('value', () => {
  shown_ms = Date.now();
  const chooser = document.activeElement && document.activeElement.closest('#duel-comparison');
  if (chooser) document.activeElement.blur();  // a comparison was chosen: the keys are for its pairs now
  const asked = document.getElementById('duel-question');
  if (asked && find('duel-a') && asked.getBoundingClientRect().top < 0) asked.scrollIntoView({block: 'start'});
});
"""
"""Clicks the buttons themselves, so that a key does exactly what a click does. Not while something is typed or composed, not on auto-repeat.

The key → votes and, once the names are there, goes on; not in the first moments, in which it may have been pressed twice.
"""

CSS = """
.gradio-container {overflow: clip !important}
.duel-buttons {gap: 8px; flex-wrap: nowrap}
.duel-buttons button {min-height: 46px; min-width: 0 !important; padding: 4px 6px; white-space: normal; line-height: 1.25}
#duel-undo {animation: duel-undo-goes 10s linear forwards}
@keyframes duel-undo-goes {0%, 98% {opacity: 1; visibility: visible} 100% {opacity: 0; visibility: hidden}}
#duel-progress {align-self: center}
@media (max-width: 640px) {
  .slot {width: 100%; min-width: 0 !important}
  .duel-buttons {position: sticky; bottom: 0; z-index: 20; background: var(--body-background-fill); padding: 6px 0; gap: 6px}
  .duel-buttons button {font-size: .84rem; word-break: keep-all; padding: 4px 2px}
}
"""
"""`overflow: hidden`, which Gradio sets on its container, would keep what is sticky from sticking to the window."""
