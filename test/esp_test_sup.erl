%% A supervisor of whatever it is given.
-module(esp_test_sup).

-behaviour(supervisor).

-export([init/1]).

init({Flags, Children}) ->
    {ok, {maps:merge(#{intensity => 1, period => 5}, Flags), Children}}.
