"""``odb-dllm demo``: a page in the browser that shows how an answer is made."""

import argparse
import os
import socket
import threading
from typing import Any

from odb_dllm.errors import InputError

INSTALL = "pip install 'gradio>=6'"


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``demo``; everything else is imported when it runs."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="Show in the browser how an answer is made",
        description=(
            "Serve a page on which a model answers, under one setting or two side by side: the canvas as it fills, the "
            "statistics and the time line. Only this machine can open it, unless --host or --share say otherwise."
        ),
    )
    add = parser.add_argument
    add("--model", default="tiny", metavar="<name>", help="Folder, hub id or tiny (default: tiny)")
    add("--device", metavar="<device>", help="cpu, cuda or cuda:N (default: CUDA where there is one)")
    add("--dtype", metavar="<dtype>", help="Default: bfloat16 on CUDA, float32 on the CPU")
    add("--setting", default="jump-share", metavar="<name>", help="Chosen at first (default: jump-share)")
    add("--gen_length", "--gen-length", type=int, default=256, metavar="N", help="Tokens to generate at first (256)")
    add("--block_length", "--block-length", type=int, default=32, metavar="N", help="Tokens of a block at first (32)")
    add("--host", default="127.0.0.1", metavar="<address>", help="Address to listen on (127.0.0.1: this machine alone)")
    add("--port", type=int, metavar="N", help="Port to listen on (default: the first free one from 7860)")
    add("--share", action="store_true", help="Also publish it under an address of gradio's, for anyone who knows it")
    parser.set_defaults(func=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    demo = build(args)
    try:
        launch(demo, args.host, args.port, args.share)
    finally:
        demo.page.close()
    return 0


def build(args: argparse.Namespace) -> Any:
    """Load the model and make the page; raises ``InputError`` for what is wrong or missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(f"The demo needs gradio: {INSTALL}.") from error
    from odb_dllm.demo.page import Defaults, Demo, chosen
    from odb_dllm.models.loading import load_model
    from odb_dllm.presets import get_setting

    _check_address(args.host, args.port)
    defaults = Defaults(
        setting=get_setting(args.setting).name, gen_length=args.gen_length, block_length=args.block_length
    )
    chosen(defaults.setting, defaults.gen_length, defaults.block_length, defaults.threshold)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    if model.tokenizer is None:
        raise InputError(f"{args.model} has no tokenizer, and a conversation is text.")
    if args.gen_length > model.max_length:
        raise InputError(f"gen_length {args.gen_length} exceeds the model's maximum of {model.max_length} tokens.")
    return Demo(model, defaults)


def _guards(host: str, share: bool) -> list[Any]:
    """Refuse requests for other host names: a page elsewhere could name this machine by one of its own."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    local = host in ("127.0.0.1", "localhost", "::1") and not share
    return [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])] if local else []


def _check_address(host: str, port: int | None) -> None:
    """Raise ``InputError`` where nothing can listen on an address; done before the model is loaded."""
    if port is not None and not 0 < port < 65536:
        raise InputError(f"--port must lie between 1 and 65535, not {port}.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        where = f"{host}, port {port}" if port else host
        raise InputError(f"The demo cannot listen on {where}: {getattr(error, 'strerror', None) or error}.") from None


def launch(demo: Any, host: str, port: int | None, share: bool, *, block: bool = True) -> str:
    """Start the server and return its address; ``block``: and stay until interrupted."""
    from odb_dllm.demo.page import theme
    from odb_dllm.demo.style import CSS, HEAD

    demo.page.queue(default_concurrency_limit=None)  # who waits for the model is decided by ``Turns``
    try:
        _, address, _ = demo.page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            theme=theme(),
            css=CSS,
            head=HEAD,
            max_file_size=1,  # nothing on the page takes a file
            app_kwargs={"middleware": _guards(host, share)},
        )
    except OSError as error:
        raise InputError(f"The demo cannot listen on {host}, port {port or 'from 7860 on'}: {error}") from error
    print(f"Open {demo.page.share_url or address} in a browser; Ctrl-C ends it.", flush=True)
    if block:
        threading.Event().wait()
    return str(address)
