"""Only what the latents depend on is part of the resume key of stage ``encode_and_cache_latents``."""

from latentline.core.closure import module_closure


def test_encoding_imports_neither_figures_nor_the_report(root):
    closure = module_closure("stages.encode_and_cache_latents.encode", root)
    files = {path.relative_to(root).as_posix() for path in closure}
    assert not [file for file in files if "figures" in file or file.endswith(("report.py", "export.py"))]
    assert "src/latentline/latents/cache.py" in files
    assert "src/latentline/autoencoders/conv.py" in files
