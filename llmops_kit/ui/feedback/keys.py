"""Rating by keyboard: a script that presses the page's own buttons, so that a key does exactly what a click does."""

from __future__ import annotations

LISTEN = """
if (!document.documentElement.dataset.ratingKeys) {
  document.documentElement.dataset.ratingKeys = '1';
  const find = id => document.getElementById(id);
  const isShown = part => Boolean(part && part.offsetParent !== null);
  const press = id => {
    const part = find(id), button = part && (part.matches('button') ? part : part.querySelector('button'));
    if (!isShown(button) || button.disabled) return false;
    button.click();
    return true;
  };
  const criteria = () => [...document.querySelectorAll('#feedback-form .criterion')];
  const choose = input => {
    input.click();
    input.focus({preventScroll: true});
    input.closest('.criterion')?.scrollIntoView({block: 'nearest'});
    return true;
  };
  const answer = (wanted, pick) => {
    let last = null;
    for (const part of criteria()) {
      if (!wanted.includes(part.dataset.type)) continue;
      const inputs = [...part.querySelectorAll('input[type=radio]')];
      const input = inputs.find((each, number) => pick(each, number, part.dataset.type));
      if (!input) continue;
      if (!inputs.some(each => each.checked)) return choose(input);
      last = input;
    }
    return last ? choose(last) : false;
  };
  const arrows = {ArrowLeft: 'feedback-vote-left', ArrowRight: 'feedback-vote-right', ArrowUp: 'feedback-vote-tie', ArrowDown: 'feedback-vote-bad'};
  const act = event => {
    const kind = document.querySelector('#feedback-task [data-kind]')?.dataset.kind;
    const key = event.key.normalize('NFKC').toLowerCase();
    if (arrows[event.key]) return kind === 'pairwise' && press(arrows[event.key]);
    if (event.key === 'Enter') return !event.target.closest('button, a, summary, [role=tab]') && press('feedback-submit');
    if (key === 's') return press('feedback-skip');
    if (key === 'p') return press('feedback-back');
    if (key === 'y' || key === 'n') return answer(['boolean'], (each, number) => number === (key === 'y' ? 0 : 1));
    if (/^[0-9]$/.test(key)) {
      return answer(['ordinal', 'category'],
        (each, number, type) => type === 'ordinal' && /^\\d+$/.test(each.value) ? each.value === key : number === Number(key) - 1);
    }
    return false;
  };
  document.addEventListener('keydown', event => {
    if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!isShown(find('feedback-task'))) return;
    const typing = 'textarea, select, [contenteditable=true], [role=listbox], input:not([type=radio]):not([type=checkbox])';
    if (event.target.closest?.(typing)) return;
    if (event.repeat && event.key.length === 1) return;
    if (event.repeat && event.key === 'Enter') return;
    if (arrows[event.key] && event.target.closest?.('[role=tab], input[type=radio]')) return;
    if (act(event)) event.preventDefault();
  });
}
"""
"""Listens for keys while a task is shown: never in a text box, never while an input method composes, never with Ctrl, Alt or Cmd."""

FOCUS = """() => {
  const task = document.getElementById('feedback-task');
  if (task && task.querySelector('[data-kind]')) { task.tabIndex = -1; task.focus({preventScroll: true}); }
}"""
"""Moves the focus from the tab to what is to be rated, so that the next key rates it."""
