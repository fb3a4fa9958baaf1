"""What is asked of a crystal beyond that it is stable: properties, objectives, and what they are worth."""

from crysjepa.properties.registry import find_property, property_names

__all__ = ["find_property", "property_names"]
