"""Tabs of the explorer, one module each: controls of Gradio around one function of ``latentline.explorer``."""
