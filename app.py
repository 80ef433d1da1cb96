# -*- coding: utf-8 -*-  # noqa: UP009
"""Starts the app: settings, kit, user interface, web, launch. `python app.py --help` lists the options.

The lines down to the version check also run on a Python that is too old for everything else, so that it can say so.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    this = ".".join(str(part) for part in sys.version_info[:2])
    sys.stderr.write(
        "llmops_kit: Python 3.11 or newer is needed, this is " + this + ". Install one from python.org and start again with it. / "
        "Python 3.11以降が必要です（これは" + this + "です）。python.orgから新しいPythonを入れて、もう一度起動してください。\n"
    )
    sys.exit(2)

try:
    from llmops_kit.web import cli
except ModuleNotFoundError as missing:
    name = str(missing.name)
    sys.stderr.write(
        "llmops_kit: this Python has no “" + name + "”. Run `make run`, or `pip install -c constraints.txt -e .`, then start again. / "
        "このPythonには「" + name + "」が入っていません。make run、またはpip install -c constraints.txt -e .を実行してから起動してください。\n"
    )
    sys.exit(2)

if __name__ == "__main__":
    with cli.one_line_errors(sys.argv[1:]):
        settings = cli.read_settings(sys.argv[1:])

        from llmops_kit.kit import Kit
        from llmops_kit.web import logs, server

        logs.configure(settings.log_level)
        listener = server.reserve(settings.host, settings.port)
        with Kit(settings) as kit:
            from llmops_kit import ui
            from llmops_kit.ui.mount import mount
            from llmops_kit.web import service

            page = {"theme": ui.theme(), "css": ui.CSS, "head": ui.HEAD, "i18n": ui.translations()}
            app = service.build_app(kit, ui.build(kit), mount=mount, **page)
            kit.tracking.start()
            kit.documents.start()
            kit.jobs.watch()
            server.serve(app, listener, drain_s=settings.drain_s, on_ready=cli.show_address, proxied=bool(settings.allowed_hosts))
    cli.leave()
