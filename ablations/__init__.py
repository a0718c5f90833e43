"""How the steps are compared: recipes, data, runs, records, tables and charts."""
