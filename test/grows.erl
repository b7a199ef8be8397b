%% What the plugin of that name (test/plugins/grows.cpp) does, as an Erlang task: a
%% module whose change of code is one with the plugin's. Its state says which
%% version it is of.
-module(grows).

-export([init/0]).
-export([stamp/2]).
-export([code_change/3]).

init() ->
    {<<"1">>, 0}.

stamp({Vsn, Count}, Mark = #{by := By}) ->
    {{Vsn, Count + 1}, Mark#{by := By ++ [Vsn]}}.

code_change(_OldVsn, _State, refuse_vm) ->
    {error, told_to_refuse};
code_change({down, _}, {_, Count}, _Extra) ->
    {ok, {<<"1">>, Count}};
code_change(_OldVsn, {_, Count}, _Extra) ->
    {ok, {<<"2">>, Count}}.
