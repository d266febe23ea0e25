"""Squares of photographs: faces found and levelled, cut out, and put back after an edit."""
